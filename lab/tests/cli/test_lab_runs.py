"""Runs of the laboratory: stopped, out of time, resumed, extended."""

import hashlib
import json
import signal
import socket
import subprocess

import pytest

import commands
from capriole.runs import DrawStore

TINY = ["--preset", "smoke", "--train-steps", "600", "--num-chains", "4", "--num-leapfrogs", "2"]
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


LAB = {"package": "capriole_lab"}


def here(*words):
    return commands.here(*words, **LAB)


def capriole(*words, **env):
    return commands.process(*words, **LAB, **env)


def start_both(*args):
    """The same command in two processes of one device each, which meet at a free port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        place = ["--coordinator", f"localhost:{probe.getsockname()[1]}", "--num-processes", 2]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "env": commands.ENVIRONMENT,
    }
    return [
        subprocess.Popen(commands.command(*args, *place, "--process-id", i, **LAB), **options)
        for i in range(2)
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

    commands.stop_by_sigterm("run", "scg", *TINY, "--num-steps", 400, out=out, phase="train", **LAB)
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
    assert f"stopped; what was finished is in {out}; go on with: capriole" in rest
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
