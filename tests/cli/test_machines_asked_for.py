"""What the command line says of machines that cannot be."""

import pytest

from capriole.cli import Machines, chosen_devices
from capriole.cli._machines import PATIENCE, patient


def test_patience_leaves_what_the_user_set():
    mine = "--xla_cpu_collective_timeout_seconds=5"
    both = patient("").split()
    assert both == [
        f"--xla_cpu_collective{part}_timeout_seconds={PATIENCE}" for part in ("", "_call_terminate")
    ]
    assert patient(mine).split() == [mine, both[1]]
    assert patient(patient("")) == patient("")


def test_machines_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match=r"need all of --coordinator HOST:PORT, --num-processes and --process-id"
    ):
        Machines(coordinator="host:1").join()
    with pytest.raises(ValueError, match="leave --devices out"):
        Machines(2, "host:1", 2, 0).join()
    with pytest.raises(ValueError, match="--process-id must be 0 to 1, got 2"):
        Machines(None, "host:1", 2, 2).join()
    with pytest.raises(ValueError, match="this run has 2 processes, here are 1"):
        chosen_devices({"devices": 2, "processes": 2})
    with pytest.raises(
        ValueError, match=r"this run needs 7 devices, here are .*XLA_FLAGS=--xla_force"
    ):
        chosen_devices({"devices": 7})
    assert chosen_devices({}) is None
