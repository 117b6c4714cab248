"""``capriole fit``: the folder it writes, its statuses, its errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from capriole.cli._app import app
from capriole.cli._fit import read_config
from capriole.cli._origin import target_of
from capriole.coordinates import Whitened, identity
from capriole.fitting import Verdict, _api
from capriole.kernels import Rotation, Transition
from capriole.runs import DrawStore, RunFolderError
from commands import stop_by_sigterm
from stored import row, search_of

QUICK = ["--num-chains", "4", "--num-draws", "60", "--train-steps", "0", "--no-compare"]
MODEL = "import jax.numpy as jnp\n\ndef f(x):\n    return -jnp.sum(x**2) / 2\n"


@pytest.fixture(autouse=True)
def standard():
    """The command sets the precision for its process; here it is put back, and types promote as for
    users.
    """
    before = jax.config.read("jax_enable_x64")
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


def capriole(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def run(*words):
    return capriole("fit", *words)


def draws(folder):
    store = DrawStore.open(folder / "draws.zarr")
    return {name: store.read(name).tobytes() for name in store.layout.arrays}


@pytest.fixture
def spec(tmp_path):
    """The user's own function, as the command names it."""
    (tmp_path / "model.py").write_text(MODEL)
    return f"{tmp_path / 'model.py'}:f"


@pytest.fixture
def stored(monkeypatch):
    """The search is stored: what follows it is tested."""
    monkeypatch.setattr(_api, "search", search_of(np.ones(2)))


def test_the_folder_holds_verdict_draws_and_kernel(tmp_path, spec):
    found = run(spec, "--dim", 2, *QUICK, "--out", tmp_path / "run")
    assert found.exit_code == 0, found.output
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["chosen"] in ("rotation", "jittered rotation", "Crank-Nicolson")
    assert verdict["failed"] is False
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "config.json",
        "draws.zarr",
        "kernel.safetensors",
    }
    assert "NUTS was not compared" in found.output


def test_a_failed_verdict_has_a_status_of_its_own(tmp_path, spec, monkeypatch):
    """Steps of a thousandth of a radian: its chains do not meet."""

    def slow(keys, target, *rest):
        white = Whitened(target, identity(2, jnp.zeros(()).dtype))
        kernel = Transition(white, Rotation(jnp.asarray(1e-3), jnp.asarray(1)))
        return search_of(np.ones(2), kernel=kernel)(keys, target, *rest)

    monkeypatch.setattr(_api, "search", slow)
    found = run(spec, "--dim", 2, *QUICK, "--json", "--out", tmp_path / "run")
    assert found.exit_code == 3, found.output
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["failed"] is True


def test_bad_input_is_status_2(tmp_path, spec):
    found = run(spec, *QUICK, "--out", tmp_path / "run")
    assert found.exit_code == 2
    assert "--dim" in found.output
    assert run("scgg", *QUICK, "--out", tmp_path / "other").exit_code == 2
    max_separation = run(
        spec,
        "--dim",
        1,
        "--spread",
        0,
        *QUICK,
        "--out",
        tmp_path / "third",
    )
    assert max_separation.exit_code == 2
    assert "spread must be one positive finite number, got 0.0" in " ".join(
        max_separation.output.split()
    )


@pytest.mark.parametrize("change", [{"dim": 2}, {"spread": 50.0}], ids=str)
def test_what_has_starts_of_its_own_takes_no_dimension_or_spread(change):
    origin = {"function": "scg", "dim": None, "spread": 1.0, "float64": True}
    assert target_of(origin, "scg", {"scg": 7}.get).target == 7
    with pytest.raises(ValueError, match="scg has a dimension and starts of its own: leave out"):
        target_of(origin | change, "scg", {"scg": 7}.get)


def test_out_of_time_resumed_extended_and_shown(tmp_path, spec, stored):
    out = tmp_path / "run"
    stopped = run(
        spec, "--dim", 2, *QUICK, "--num-draws", 2000, "--time-budget", 0.001, "--out", out
    )
    assert stopped.exit_code == 75, stopped.output
    assert f"capriole resume {out}" in stopped.output
    again = run(spec, "--dim", 2, *QUICK, "--out", out)
    assert again.exit_code == 2
    assert "already holds a run" in again.output
    early = capriole("extend", out, "--num-draws", 40)
    assert early.exit_code == 2
    assert "not finished; resume it" in early.output
    done = capriole("resume", out)
    assert done.exit_code == 0, done.output
    longer = capriole("extend", out, spec, "--num-draws", 40)
    assert longer.exit_code == 0, longer.output
    long = ["--num-draws", 2040]
    assert run(spec, "--dim", 2, *QUICK, *long, "--out", tmp_path / "whole").exit_code == 0
    for folder in (
        out,
        tmp_path / "whole",
    ):  # R-hat is good at once: no thinning that the length could change
        assert json.loads((folder / "verdict.json").read_text())["settings"]["thin"] == 1
    assert draws(out) == draws(tmp_path / "whole")
    shown = capriole("show", out)
    assert shown.exit_code == 0, shown.output
    assert "NUTS was not compared" in shown.output


def test_stopped_by_sigterm_and_resumed(tmp_path, spec):
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = ["fit", spec, "--dim", 2, *QUICK, "--num-draws", 100_000]
    # A checkpoint after every chunk slows it, so that the signal comes in time.
    stop_by_sigterm(*words, "--checkpoint-every", 0, out=out, phase="sample")
    assert 0 < DrawStore.open(out / "draws.zarr").committed < 100_000
    assert not (out / "verdict.json").exists()
    done = capriole("resume", out, spec)
    assert done.exit_code == 0, done.output
    assert capriole(*words, "--out", whole).exit_code == 0
    assert draws(out) == draws(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": None},
        {"origin": {"function": "f.py:f", "dim": 0, "spread": 1.0, "float64": True}},
        {"origin": {"function": "f.py:f", "dim": 10**9, "spread": 1.0, "float64": True}},
        {"origin": {"function": "scg", "dim": None, "spread": "x", "float64": True}},
        {"seed": 2**70},
        {"num_draws": 10**12},
        {"num_chains": True},
        {"train_steps": -1},
        {"spread": None},
        {"criterion": ["gradients"]},
        {"compare": 1},
    ],
    ids=str,
)
def test_configurations_are_checked_field_by_field(change):
    origin = {"function": "scg", "dim": None, "spread": 1.0, "float64": True}
    sound = {
        "seed": 0,
        "num_chains": 4,
        "num_draws": 60,
        "spread": 1.0,
        "train_steps": 0,
        "num_warmup_chains": 64,
    }
    sound |= {"compare": True, "criterion": "gradients", "origin": origin}
    read_config(sound)
    with pytest.raises((RunFolderError, ValueError), match="config"):
        read_config(sound | change)


@pytest.mark.parametrize(
    "change",
    [{"rows": 3}, {"rows": [{"kind": 7}]}, {"chosen": None}, {"problems": [1]}, {"settings": 0}],
    ids=str,
)
def test_show_survives_verdicts_of_others(tmp_path, change):
    sound = Verdict((row(),), "rotation", (), False, (), False, {}).as_dict()
    (tmp_path / "verdict.json").write_text(json.dumps(sound))
    assert capriole("show", tmp_path).exit_code == 0
    (tmp_path / "verdict.json").write_text(json.dumps(sound | change))
    shown = capriole("show", tmp_path)
    assert shown.exit_code == 2
    assert "error: " in shown.output


def test_effective_draws_may_be_asked_for_and_the_run_goes_on(tmp_path, spec):
    folder = tmp_path / "run"
    found = run(spec, "--dim", 2, "--num-effective", 200, "--train-steps", 0, "--out", folder)
    assert found.exit_code == 0, found.output
    config = json.loads((folder / "config.json").read_text())
    assert config["num_effective"] == 200
    assert not config["compare"]
    verdict = json.loads((folder / "verdict.json").read_text())
    final = verdict["final"]
    rate = min(final["ess_per_gradient"], final["ess_sq_per_gradient"])
    assert rate * final["num_gradients"] >= 200
    before = draws(folder)
    (folder / "verdict.json").unlink()
    again = capriole("resume", folder, spec)
    assert again.exit_code == 0, again.output
    assert draws(folder) == before


def test_draws_and_effective_draws_at_once_are_refused(tmp_path, spec):
    words = ["--dim", 2, "--num-effective", 200, "--num-draws", 100, "--out", tmp_path / "run"]
    found = run(spec, *words)
    assert found.exit_code == 2
    assert "were both given" in found.output
