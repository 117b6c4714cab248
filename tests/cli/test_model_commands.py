"""The command line takes a model in place of a function, without its dimension."""

import json

import numpy as np
import pytest

from capriole.runs import open_draws
from commands import here

FILE = """
import jax.numpy as jnp
import numpy as np
import capriole

model = capriole.constrained(
    lambda x: -x["rate"] - jnp.sum(x["z"] ** 2) / 2,
    {"rate": 1.0, "z": np.zeros(2)},
    {"rate": "positive"},
    dims={"z": ["k"]},
)
double = capriole.Model(lambda z: -z["a"] ** 2, {"a": 0.0}, double=True, library="doubled")
number = 3

def logdensity(x):
    return -jnp.sum(x**2)
"""
TRAIN = ["--num-leapfrogs", 2, "--num-chains", 8, "--num-steps", 20]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mine.py"
    path.write_text(FILE)
    return path


REFUSED = {
    "dim": (["fit", "model", "--dim", 2], "the model has 3 coordinates, not 2: leave out --dim"),
    "no dim": (["fit", "logdensity"], "give the dimension of"),
    "float32": (["fit", "double", "--float32"], "a model of doubled needs float64"),
    "nothing": (["fit", "number"], "has no function 'number'; it has double, logdensity, model"),
    "doctor": (["doctor", "logdensity"], "give the dimension of"),
    "doctor's dim": (["doctor", "model", "--dim", 4], "has 3 coordinates, not 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case, file, tmp_path):
    (command, name, *options), message = REFUSED[case]
    out = [] if command == "doctor" else ["--out", tmp_path / "run"]
    done = here(command, f"{file}:{name}", *options, *out)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_the_doctor_needs_no_dimension(file):
    done = here("doctor", f"{file}:model")
    assert done.exit_code == 0, done.output
    assert "value and gradient at init" in done.output


def test_a_kernel_is_trained_and_drawn_with(file, tmp_path):
    spec, out = f"{file}:model", tmp_path / "train"
    done = here("train", spec, *TRAIN, "--out", out)
    assert done.exit_code == 0, done.output
    kernel, draws = out / "kernel.safetensors", tmp_path / "draws"
    counts = ["--num-draws", 10, "--num-warmup", 10, "--num-chains", 2]
    done = here("sample", spec, "--kernel", kernel, *counts, "--out", draws)
    assert done.exit_code == 0, done.output
    done = here("extend", draws, spec, "--num-draws", 5)
    assert done.exit_code == 0, done.output
    tree = open_draws(draws)
    assert tree["posterior"]["rate"].shape == (2, 15)
    np.testing.assert_allclose(
        tree["posterior"]["rate"], np.exp(tree["unconstrained_posterior"]["rate"]), rtol=1e-12
    )


@pytest.mark.slow
def test_a_model_is_fitted_and_its_run_goes_on(file, tmp_path):
    spec, out = f"{file}:model", tmp_path / "fit"
    counts = ["--num-draws", 40, "--num-chains", 4, "--train-steps", 0, "--no-compare"]
    done = here("fit", spec, *counts, "--out", out)
    assert done.exit_code == 0, done.output
    assert json.loads((out / "config.json").read_text())["origin"]["dim"] is None
    done = here("extend", out, spec, "--num-draws", 10)
    assert done.exit_code in (0, 3), done.output
    tree = open_draws(out)
    assert tree["posterior"]["rate"].shape == (4, 50)
    assert float(tree["posterior"]["rate"].min()) > 0
