"""Files from strangers: refused with a clear error or read for what they say; never executed, never
a hang.
"""

import json
import os
import pickle
import shutil
import signal
import tracemalloc
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hostile
from capriole.runs import CheckpointError, DrawStore, RunFolderError

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return hostile.make(tmp_path_factory.mktemp("hostile") / "sound")


def test_sound_files_are_read(sound):
    assert [hostile.read(sound, kind) for kind in hostile.KINDS] == ["loaded"] * len(hostile.KINDS)


@contextmanager
def within(seconds, what):
    """Fail where a hang would be, with an error that no ``except Exception`` catches."""

    def late(*_):
        pytest.fail(f"took more than {seconds} s: {what}")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_pipe_that_nobody_writes_to_would_be_noticed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(pytest.fail.Exception, match=r"took more than 0\.1 s: a pipe"),
        within(0.1, "a pipe"),
        suppress(Exception),
    ):
        (tmp_path / "pipe").read_bytes()


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_spoiled_files_do_no_harm(kind, sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, outcomes = tmp_path / "spoiled", []

    @settings(
        max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(seed=SEEDS)
    def spoil_and_read(seed):
        hostile.copy(sound, folder, kind)
        how = hostile.spoil(folder, kind, np.random.default_rng(seed))
        tracemalloc.start()
        try:
            with within(60, how):  # a hang, not a slow machine
                outcome = hostile.read(folder, kind)
            assert tracemalloc.get_traced_memory()[1] < 64 << 20, how
        finally:
            tracemalloc.stop()
        assert outcome == "refused" or not how.startswith(("cut", "fill")), how
        assert not (tmp_path / "executed").exists(), how
        outcomes.append(outcome)

    spoil_and_read()
    assert len(outcomes) > 50
    # Of 60 some 4 are read for what they say, 8 of checkpoints, whose facts and keys may be
    # anything.
    assert outcomes.count("refused") > 2 / 3 * len(outcomes), outcomes


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
    assert [hostile.read(folder, kind) for kind in hostile.KINDS] == ["refused"] * len(
        hostile.KINDS
    )
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
