"""Two devices, and two processes, do what one does."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from capriole.runs import CheckpointError, DrawStore
from tiny import NUM, checkpoints, stream, train, whole

HERE = Path(__file__).parent
TWO = "--xla_force_host_platform_device_count=2"
# Vectorised code for 4 chains rounds differently from that for 8, and 60 steps of a chain, or 60
# updates of Adam, pass
# a difference on, at most a thousandfold per update; a wrong stream of random numbers is wrong by
# 1.
DRAWS, TRAINING = 1e-9, 1e-6


def start(folder, *args, flags=""):
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parent.parent / "src")])
    environment = os.environ | {
        "PYTHONPATH": path,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
    }
    command = [sys.executable, HERE / "machines.py", folder, *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def start_both(folder, *args):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    return [start(folder, i, port, *args) for i in range(2)]


def made(folder):
    store = DrawStore.open(folder / "draws.zarr")
    arrays = {name: store.read(name) for name in store.layout.arrays}
    return arrays | dict(np.load(folder / "made.npz"))


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices") / "run"
    process = start(folder, flags=TWO)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return made(folder)


@pytest.mark.usefixtures("standard_promotion")
def test_two_devices_do_what_one_does(on_two_devices, tmp_path):
    draws, trained = whole(), train(tmp_path)
    np.testing.assert_allclose(
        on_two_devices["posterior/x"], draws.record.position, rtol=0, atol=DRAWS
    )
    for name in ("accepted", "direction", "n_steps"):
        np.testing.assert_array_equal(
            on_two_devices[f"sample_stats/{name}"], getattr(draws.record, name)
        )
    for name, expected in trained.history.items():
        np.testing.assert_allclose(on_two_devices[name], expected, rtol=TRAINING, atol=TRAINING)
    np.testing.assert_allclose(
        on_two_devices["chains"], trained.chains.position, rtol=0, atol=TRAINING
    )


@pytest.mark.slow
def test_two_processes_do_what_two_devices_do(on_two_devices, tmp_path):
    folder = tmp_path / "run"
    processes = start_both(folder)
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert DrawStore.open(folder / "draws.zarr").layout.parts == 2
    for name, value in made(folder).items():
        np.testing.assert_array_equal(value, on_two_devices[name], err_msg=name)
    (folder / "checkpoints").rename(tmp_path / "checkpoints")
    (folder / "draws.zarr").rename(tmp_path / "draws.zarr")
    with pytest.raises(
        CheckpointError, match=r"written by 2 processes, now there are 1; resume with as many"
    ):
        stream(tmp_path)


def test_a_dead_process_ends_the_other_with_a_message(tmp_path):
    first, second = start_both(tmp_path / "run", "die")
    second.communicate(timeout=600)
    output, _ = first.communicate(timeout=600)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 2
    assert "error: UNKNOWN: Gloo" in output
    step = checkpoints(tmp_path / "run").read("sample").step
    store = DrawStore.open(tmp_path / "run" / "draws.zarr")
    assert NUM // 2 > step > 0
    np.testing.assert_allclose(
        store.read_position(0, step), whole().record.position[:, :step], rtol=0, atol=DRAWS
    )


@pytest.mark.slow
def test_a_process_that_stood_still_for_long_is_waited_for(tmp_path):
    first, second = start_both(tmp_path / "run")
    time.sleep(8)
    second.send_signal(signal.SIGSTOP)
    time.sleep(45)
    second.send_signal(signal.SIGCONT)
    outputs = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
