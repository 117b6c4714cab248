"""The script behind the tables of training trials runs, at its smallest."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from capriole_lab.dlgm.files._files import write_json

pytestmark = pytest.mark.usefixtures("standard_promotion")

SCRIPT = Path(__file__).parents[2] / "scripts" / "dlgm_choices.py"


@pytest.mark.slow
def test_a_trial_has_the_presets_gradients_and_its_epochs_can_be_compared(tmp_path):
    spec = importlib.util.spec_from_file_location("dlgm_choices", SCRIPT)
    choices = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(choices)
    choices.AIS |= {"num_temperatures": 10, "num_chains": 2}
    found = choices.trial(
        "hmc", tmp_path / "hmc", "smoke", {"num_transitions": 1, "batch": 50}, slice(8), 1.0
    )
    assert found["epochs"] == 3, "3 + 2 * 3 gradients a step for 2 epochs, 3 + 3 for 3"
    assert np.load(tmp_path / "hmc" / "validation.npy").shape == (8,)
    for name, gain in (("one", 1.0), ("other", 0.0)):
        stored = {
            "scheme": name,
            "seed": 3,
            "test": {"per_image": [gain - 5, gain - 4, 2 * gain - 6]},
        }
        write_json(tmp_path / name / "evaluation.json", stored)
    paired = choices.pair(tmp_path / "one", tmp_path / "other")
    assert paired["difference"] == {"mean": pytest.approx(4 / 3), "se": pytest.approx(1 / 3)}
    assert (paired["of"], paired["less"], paired["seed"]) == ("one", "other", 3)
    last = choices.last_epoch(tmp_path / "hmc", slice(8))
    assert last["last_epoch"] == 3
    assert np.isfinite(last["difference"]["mean"])
    assert (last["difference"]["mean"] == 0) == (last["epoch_kept"] == 3)
