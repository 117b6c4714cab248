"""Files from strangers: refused with a clear error or read for what they say; never executed, never a hang."""

import json
import os
import pickle
import shutil
import time
import tracemalloc

import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capriole.runs import CheckpointError, DrawStore, RunFolderError

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return hostile.make(tmp_path_factory.mktemp("hostile") / "sound")


def test_sound_files_are_read(sound):
    assert [hostile.read(sound, kind) for kind in hostile.KINDS] == ["loaded"] * len(hostile.KINDS)


@pytest.mark.parametrize("kind", hostile.KINDS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=SEEDS)
def test_spoiled_files_do_no_harm(kind, sound, tmp_path, monkeypatch, seed):
    folder = tmp_path / "spoiled"
    hostile.copy(sound, folder, kind)
    monkeypatch.chdir(tmp_path)
    how = hostile.spoil(folder, kind, np.random.default_rng(seed))
    tracemalloc.start()
    start = time.monotonic()
    try:
        assert hostile.read(folder, kind) in ("loaded", "refused"), how
        assert tracemalloc.get_traced_memory()[1] < 64 << 20, how
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 60, how  # a hang, not a slow machine
    assert not (tmp_path / "executed").exists()


def test_a_store_that_says_it_is_empty_gives_no_draws(sound, tmp_path):
    """Found by fuzzing: nothing committed made the flat positions' shape ambiguous."""
    shutil.copytree(sound / "draws.zarr", tmp_path / "draws.zarr")
    root = tmp_path / "draws.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["committed"] = 0
    root.write_text(json.dumps(content))
    assert DrawStore.open(root.parent).read_position().shape == (8, 0, 2)


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_not_opened(sound, tmp_path):
    trap = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(str(trap)))
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    for path in (p for p in folder.rglob("*") if p.is_file()):
        path.write_bytes(bomb)
    assert [hostile.read(folder, kind) for kind in hostile.KINDS] == ["refused"] * len(hostile.KINDS)
    assert not trap.exists()


def test_every_flipped_bit_of_stored_draws_is_seen(sound, tmp_path):
    chunk = next((sound / "draws.zarr" / "posterior" / "x" / "c").rglob("0/0/0"))
    content = chunk.read_bytes()
    committed = DrawStore.open(sound / "draws.zarr").committed
    for position in np.random.default_rng(0).integers(len(content), size=20):
        folder = tmp_path / str(position)
        shutil.copytree(sound, folder, dirs_exist_ok=True)
        (folder / chunk.relative_to(sound)).write_bytes(
            content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]
        )
        with pytest.raises(RunFolderError, match="damaged"):
            DrawStore.open(folder / "draws.zarr").read("posterior/x", 0, committed)


def test_names_of_stages_are_no_paths(tmp_path):
    from tiny import checkpoints

    with pytest.raises(ValueError, match="a stage is named by"):
        checkpoints(tmp_path).write("../x", 1, {}, {})
    assert issubclass(CheckpointError, ValueError)
