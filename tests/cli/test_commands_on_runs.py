"""Commands on run folders: processes meet before signals, the doctor's status, tables of others."""

import signal

import pytest

from capriole.cli import Options, survive
from capriole.runs import RunFolder
from commands import here

MODEL = """
import jax.numpy as jnp

def logdensity(x):
    return -0.5 * jnp.sum(x**2)

def outside(x):
    return jnp.where(x[0] > 0, jnp.log(x[0]), jnp.nan) - jnp.sum(x**2)
"""


def test_processes_meet_before_signals_are_taken(tmp_path):
    """JAX takes SIGTERM when they do; what is set afterwards is what counts."""
    before, handlers = signal.getsignal(signal.SIGTERM), []

    class Meeting:
        def join(self):
            handlers.append(signal.getsignal(signal.SIGTERM))

    def work(*_):
        handlers.append(signal.getsignal(signal.SIGTERM))

    assert survive(
        lambda: (RunFolder(tmp_path / "run"), work), tmp_path, Options(machines=Meeting())
    )
    assert handlers[0] is before
    assert handlers[1] is not before


def test_the_doctor_has_a_status(tmp_path):
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    well = here("doctor", f"{model}:logdensity", "--dim", 3)
    assert well.exit_code == 0, well.output
    assert "gradient" in well.stdout
    ill = here("doctor", f"{model}:outside", "--dim", 2)
    assert (ill.exit_code, type(ill.exception)) == (1, SystemExit), (
        "no error of ours, which has status 1 too"
    )
    assert "error" in ill.stdout
    assert here("doctor", f"{model}:missing", "--dim", 2).exit_code == 2


@pytest.mark.parametrize("content", ['{"rows": 3}', "{}", '{"rows": [null]}', "[" * 1000, "\0"])
def test_show_survives_verdicts_that_are_none(tmp_path, content):
    (tmp_path / "verdict.json").write_text(content)
    shown = here("show", tmp_path)
    assert shown.exit_code == 2, shown.output
    assert shown.stderr.startswith("error: ")
