"""``capriole fit``: the folder it writes, its statuses, its errors."""

import json

import jax
import pytest
from typer.testing import CliRunner

from capriole.cli._app import app

QUICK = ["--num-chains", "4", "--num-draws", "60", "--train-steps", "0", "--no-compare"]
FAR = """
import jax.numpy as jnp

def far(x):
    return jnp.logaddexp(-jnp.sum((x - 500.0) ** 2) / 2, -jnp.sum((x + 500.0) ** 2) / 2)
"""


@pytest.fixture(autouse=True)
def standard():
    """The command sets the precision for its process; here it is put back, and types promote as for users."""
    before = jax.config.read("jax_enable_x64")
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


def run(*words):
    return CliRunner().invoke(app, ["fit", *map(str, words)])


def test_the_folder_holds_verdict_draws_and_kernel(tmp_path):
    found = run("scg", *QUICK, "--out", tmp_path / "run")
    assert found.exit_code == 0, found.output
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["chosen"] in ("rotation", "jittered rotation", "Crank-Nicolson")
    assert verdict["failed"] is False
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "draws.zarr", "kernel.safetensors"}
    assert "NUTS was not compared" in found.output


def test_a_failed_verdict_has_a_status_of_its_own(tmp_path):
    (tmp_path / "model.py").write_text(FAR)
    spec = f"{tmp_path / 'model.py'}:far"
    found = run(spec, "--dim", 1, "--spread", 500, *QUICK, "--json", "--out", tmp_path / "run")
    assert found.exit_code == 3, found.output
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())["failed"] is True


def test_bad_input_is_status_2(tmp_path):
    (tmp_path / "model.py").write_text(FAR)
    found = run(f"{tmp_path / 'model.py'}:far", *QUICK, "--out", tmp_path / "run")
    assert found.exit_code == 2
    assert "--dim" in found.output
    assert run("scgg", *QUICK, "--out", tmp_path / "other").exit_code == 2
