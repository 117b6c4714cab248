"""Runs from the command line: stopped, out of time, resumed, extended, examined."""

import hashlib
import json
import signal
import socket
import subprocess

import jax
import pytest
import typer
from typer.testing import CliRunner

from capriole.cli._app import app
from capriole.runs import RunFolder
from capriole.runs._store import DrawStore
from commands import ENVIRONMENT, command, stop_by_sigterm

MODEL = """
import jax.numpy as jnp

def logdensity(x):
    return -0.5 * jnp.sum(x**2)

def outside(x):
    return jnp.where(x[0] > 0, jnp.log(x[0]), jnp.nan) - jnp.sum(x**2)
"""
TINY = ["--preset", "smoke", "--train-steps", "600", "--num-chains", "4", "--num-leapfrogs", "2"]
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.fixture(autouse=True)
def as_for_users():
    """Single precision and JAX's own promotion of types, as in a process of the command's own; then
    as it was.
    """
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", False)
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


def here(*words):
    """The command in this process, which saves it the imports."""
    return CliRunner().invoke(app, [*map(str, words)])


def capriole(*args, **env):
    """The command in a process of its own."""
    env = ENVIRONMENT | env
    return subprocess.run(
        command(*args), capture_output=True, text=True, timeout=300, check=False, env=env
    )


def start_both(*args):
    """The same command in two processes of one device each, which meet at a free port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        place = ["--coordinator", f"localhost:{probe.getsockname()[1]}", "--num-processes", 2]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": ENVIRONMENT,
    }
    return [
        subprocess.Popen(command(*args, *place, "--process-id", i), **options) for i in range(2)
    ]


def draws(folder, stop=None):
    store = DrawStore.open(folder / "draws.zarr")
    return {
        name: hashlib.sha256(store.read(name, 0, stop).tobytes()).hexdigest()
        for name in store.layout.arrays
    }


@pytest.mark.slow  # `fit`, which goes the same way, is stopped and resumed in test_fit_command.py
def test_stopped_out_of_time_resumed_and_extended(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = capriole("run", "scg", *TINY, "--num-steps", 450, "--out", whole)
    assert done.returncode == 0, done.stderr
    assert "draws of all samplers will take up to" in done.stderr
    assert not (whole / "stages").exists()

    stop_by_sigterm("run", "scg", *TINY, "--num-steps", 400, out=out, phase="train")
    assert list((out / "checkpoints").glob("train.*"))

    early = capriole("extend", out)
    assert early.returncode == 2
    assert "not finished; resume it before" in early.stderr
    short = capriole("resume", out, "--time-budget", 0.01)
    assert short.returncode == 75, short.stderr
    assert "time budget of 0.01 s is used up" in short.stderr
    done = capriole("resume", out)
    assert done.returncode == 0, done.stderr
    assert draws(out) == draws(whole, 400)
    done = capriole("extend", out, "--num-steps", 50, "--json")
    assert done.returncode == 0, done.stderr
    assert draws(out) == draws(whole)
    row = json.loads(done.stdout)["samplers"]["l2hmc"]
    assert (row["num_draws_stored"], row["num_steps"]) == (450, 450)
    expected = json.loads((whole / "results.json").read_text())["samplers"]["l2hmc"]
    assert row["paper_ess_per_step"] == pytest.approx(expected["paper_ess_per_step"], rel=1e-12)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["stage"] == "train"]
    assert steps == sorted(set(steps))


def test_processes_meet_before_signals_are_taken(tmp_path):
    """JAX takes SIGTERM when they do; what is set afterwards is what counts."""
    from capriole.cli._pipeline import Options, survive

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


@pytest.mark.slow
def test_two_processes_stopped_and_resumed(tmp_path):
    """SIGTERM to the second of two processes stops both; two more draw what two devices of one
    process draw.
    """
    whole, out = tmp_path / "whole", tmp_path / "run"
    options = [*TINY, "--train-steps", 500, "--num-steps", 400]
    done = capriole("run", "scg", *options, "--devices", 2, "--out", whole, **TWO_DEVICES)
    assert done.returncode == 0, done.stderr

    first, second = start_both("run", "scg", *options, "--out", out)
    for line in first.stderr:
        if line.startswith("train:"):
            second.send_signal(signal.SIGTERM)
            break
    (_, rest), (_, other) = first.communicate(timeout=600), second.communicate(timeout=600)
    assert (first.returncode, second.returncode) == (130, 143), rest + other
    assert f"stopped; what was finished is in {out}; go on with: capriole resume {out}" in rest
    assert "stopped by SIGTERM" in other
    assert list((out / "checkpoints").glob("train.*"))
    assert not (out / "draws.zarr").exists()

    both = start_both("resume", out)
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert json.loads((out / "results.json").read_text())["completed"] is True
    assert [f"everything is in {out}" in printed for printed, _ in outputs] == [True, False]
    assert draws(out) == draws(whole)
    assert DrawStore.open(out / "draws.zarr").layout.parts == 2


def test_a_run_folder_never_chooses_code_to_run(tmp_path):
    trap = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"open({str(trap)!r}, 'w')\ndef f(x): return x.sum()")
    config = {"target": "f", "preset": "smoke", "seed": 0}
    origin = {
        "command": "sample",
        "function": f"{tmp_path}/evil.py:f",
        "dim": 2,
        "spread": 1.0,
        "float64": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"origin": origin}))
    done = here("resume", tmp_path)
    assert done.exit_code == 2, done.output
    assert "never chooses code to run" in done.stderr
    assert not trap.exists()
    other = tmp_path / "other"  # the first is in use until what holds it here is gone
    other.mkdir()
    (other / "config.json").write_text(
        json.dumps(config | {"origin": {"command": "run"}, "width": 10**9})
    )
    done = here("resume", other)
    assert done.exit_code == 2, done.output
    assert "the configuration has width = 1000000000" in done.stderr


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


@pytest.mark.parametrize(
    "content", ['{"samplers": 3}', "{}", '{"samplers": {"a": null}}', "[" * 1000, "\0"]
)
def test_show_survives_results_of_others(tmp_path, capsys, content):
    from capriole.cli._app import show

    (tmp_path / "results.json").write_text(content)
    with pytest.raises(typer.Exit):
        show(tmp_path)
    assert capsys.readouterr().err.startswith("error: ")
