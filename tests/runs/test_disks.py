"""Disks that are full, and folders that cannot be written: no committed draw is lost."""

import contextlib
import subprocess

import numpy as np
import pytest

from capriole.runs import DrawStore, RunFolder, RunFolderError, open_draws
from tiny import assert_holds, checkpoints, stop_at, stream, train, whole


@contextlib.contextmanager
def disk(folder, kilobytes):
    """A file system of that size at ``folder``; the test is skipped where none can be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def test_a_full_disk_costs_no_committed_draw(tmp_path):
    with disk(tmp_path / "disk", 400) as folder:
        stream(folder, progress=stop_at(20))
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 1024)
        with pytest.raises(
            RunFolderError, match=r"No space left.*first 20 draws per chain are safe"
        ):
            stream(folder)
        for draws in (
            DrawStore.open(folder / "draws.zarr").read_position(),
            open_draws(folder).posterior["x"],
        ):
            np.testing.assert_array_equal(draws, whole().record.position[:, :20])
        assert checkpoints(folder).read("sample").step == 20
        (folder / "filler").unlink()
        assert stream(folder).completed
        assert_holds(folder, whole())


@pytest.mark.usefixtures("standard_promotion")
def test_a_disk_that_becomes_read_only_costs_no_committed_draw(tmp_path):
    with disk(tmp_path / "disk", 1000) as folder:
        train(folder, num_steps=10)
        stream(folder, progress=stop_at(20))
        remount(folder, "ro")
        for act in (lambda: stream(folder), lambda: RunFolder(folder / "new")):
            with pytest.raises(RunFolderError, match="Read-only file system"):
                act()
        assert DrawStore.open(folder / "draws.zarr").committed == 20
        remount(folder, "rw")
        stream(folder)
        assert_holds(folder, whole())
