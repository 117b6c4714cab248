"""Resuming: training and sampling that were stopped anywhere end exactly where they would have
ended.
"""

import os
import resource
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, Whitening
from capriole.kernels import Transition, learned_leapfrog
from capriole.runs import CheckpointError, DrawStore, RunFolderError, _layout, _store, open_draws
from capriole.training import Snapshot, train_kernel
from densities import Banana
from kernels import learned
from tiny import (
    CHUNK,
    KERNEL,
    KEY,
    NUM,
    RECIPE,
    STATE,
    assert_holds,
    checkpoints,
    stop_at,
    stream,
    train,
    whole,
)


def assert_same_training(a, b):
    arrays = [eqx.filter((r.transition, r.chains, r.history), eqx.is_array_like) for r in (a, b)]
    assert jax.tree.structure(arrays[0]) == jax.tree.structure(arrays[1])
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    assert (a.num_gradients, a.rollbacks, a.skipped_updates) == (
        b.num_gradients,
        b.rollbacks,
        b.skipped_updates,
    )


@pytest.mark.parametrize("thin", [1, 3])
def test_streamed_draws_are_those_of_draw_chains(tmp_path, thin):
    streamed, memory = stream(tmp_path, thin=thin), whole(thin=thin)
    assert streamed.completed
    assert_holds(tmp_path, memory)
    jax.tree.map(np.testing.assert_array_equal, streamed.state, memory.state)
    back = streamed.draws(20)
    assert back.num_gradients == memory.record.n_steps[:, 20:].sum()
    assert {k: v.dtype for k, v in back.record._asdict().items()} == {
        k: v.dtype for k, v in memory.record._asdict().items()
    }


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_sampling_stopped_twice_and_extended(tmp_path, seconds):
    for stop in (CHUNK, 3 * CHUNK):
        partial = stream(tmp_path, seconds=seconds, progress=stop_at(stop))
        assert not partial.completed
        assert partial.store.committed == stop
    assert stream(tmp_path, seconds=seconds).completed
    assert_holds(tmp_path, whole())
    assert stream(tmp_path, num_draws=NUM + 25).completed
    assert_holds(tmp_path, whole(NUM + 25))
    assert stream(tmp_path, num_draws=NUM).store.committed == NUM + 25  # never fewer


@pytest.mark.usefixtures("standard_promotion")
def test_training_stopped_twice(tmp_path):
    expected = train_kernel(KEY, KERNEL, STATE.position, RECIPE, num_steps=60, chunk_size=CHUNK)
    for stop in (10, 30):
        assert not train(tmp_path, progress=stop_at(stop), seconds=1e9).completed
        assert checkpoints(tmp_path).read("train").step == stop
    resumed = train(tmp_path)
    assert_same_training(resumed, expected)
    events = []
    assert_same_training(train(tmp_path, progress=events.append), expected)
    assert not events, "a finished stage is read back"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.mark.usefixtures("standard_promotion")
def test_a_rollback_survives_the_resume(tmp_path, monkeypatch):
    """The first chunk always fails at this step size, is undone, and the next attempts count from
    there.
    """
    from capriole.training import _loop as _train

    verdicts = iter([False, True, True, False, True, True])
    monkeypatch.setattr(_train, "_is_healthy", lambda *_: next(verdicts))
    options = {"num_steps": 30, "chunk_size": 10}
    snapshots: list[Snapshot] = []
    expected = train_kernel(
        KEY, KERNEL, STATE.position, RECIPE, checkpoint=snapshots.append, **options
    )
    assert (expected.rollbacks, [s.rollbacks for s in snapshots]) == (2, [1, 1, 2])
    verdicts = iter([False, True, True])
    resumed = train_kernel(KEY, KERNEL, STATE.position, RECIPE, resume=snapshots[1], **options)
    assert_same_training(resumed, expected)


def test_the_newest_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    stream(tmp_path, progress=stop_at(40))
    newest = max((tmp_path / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with caplog.at_level("WARNING", "capriole"):
        stream(tmp_path)
    assert "is damaged" in caplog.text
    assert "the one before" in caplog.text
    assert_holds(tmp_path, whole())
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="remove it to start the stage 'sample' anew"):
        stream(tmp_path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    stream(tmp_path, progress=stop_at(20))
    with pytest.raises(CheckpointError, match="another random key"):
        stream(tmp_path, key=jax.random.key(6))
    with pytest.raises(
        CheckpointError,
        match=r"position'\]|position.*float64\[2, 8\].*this run has float64\[2, 9\]",
    ):
        stream(tmp_path, state=KERNEL.init(jnp.zeros((2, 9))))
    with pytest.raises(CheckpointError, match="thinned by 1, this run asks for 2"):
        stream(tmp_path, thin=2)
    with pytest.raises(
        CheckpointError, match="are of another kernel, perhaps of this one before it was trained on"
    ):
        stream(
            tmp_path,
            kernel=Transition(Banana(), learned(2, 0.3, heads=0.7)(2, jnp.dtype("float64"))),
        )
    with pytest.raises(
        CheckpointError, match="not the one this run began with: where the first chain is it was"
    ):
        stream(tmp_path, kernel=eqx.tree_at(lambda k: k.logdensity, KERNEL, Banana(bend=0.41)))
    other = checkpoints(tmp_path, "another")
    with pytest.raises(CheckpointError, match="another configuration"):
        other.read("sample")


class CrashError(BaseException):
    """The process is gone: nothing after it reaches the disk."""


@pytest.fixture
def crash(monkeypatch):
    """``crash(n)``: the n-th of the operations that reach the disk, and every later one, fails."""

    def arm(at):
        count = iter(range(10**9))

        def guarded(real):
            def operation(*args, **options):
                if next(count) >= at:
                    raise CrashError
                return real(*args, **options)

            return operation

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", guarded(os.fsync))
            patch.setattr(Path, "replace", guarded(Path.replace))
            yield

    return arm


@pytest.mark.parametrize("at", [0, 1, 5, 18, 19, 27, 40, 41, 44, 45, 47, 49, 50, 52, 60, 75, 95])
def test_a_crash_at_any_write_costs_no_draw(tmp_path, crash, at):
    for _ in crash(at):
        with pytest.raises(CrashError):
            stream(tmp_path)
    if (tmp_path / "checkpoints").exists() and list(
        (tmp_path / "checkpoints").glob("*.safetensors")
    ):
        found = checkpoints(tmp_path).read("sample")
        assert DrawStore.open(tmp_path / "draws.zarr").committed >= found.step
        assert open_draws(tmp_path).posterior.sizes["draw"] >= found.step
    stream(tmp_path)
    assert_holds(tmp_path, whole())


def test_a_failed_write_is_one_clear_error_and_earlier_draws_stay(tmp_path, monkeypatch):
    stream(tmp_path, progress=stop_at(20))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunFolderError, match=r"No space left.*first 20 draws per chain are safe.*resume"
    ):
        stream(tmp_path)
    monkeypatch.undo()
    assert DrawStore.open(tmp_path / "draws.zarr").committed == 20
    stream(tmp_path)
    assert_holds(tmp_path, whole())


def test_files_that_may_not_grow_leave_earlier_draws_alone(tmp_path):
    stream(tmp_path, progress=stop_at(20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(
            RunFolderError, match=r"File too large.*first 20 draws per chain are safe"
        ):
            stream(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store = DrawStore.open(tmp_path / "draws.zarr")
    np.testing.assert_array_equal(store.read_position(), whole().record.position[:, :20])
    stream(tmp_path)
    assert_holds(tmp_path, whole())


def test_kill_nine(tmp_path):
    import kills

    whole_run, folder = kills.finish(tmp_path / "whole"), tmp_path / "run"
    rng = np.random.default_rng(0)
    in_time = kills.kill(folder, "train", rng.uniform(0, 0.1))
    in_time += kills.kill(folder, "sample", rng.uniform(0, 0.2))
    assert kills.finish(folder) == whole_run
    assert in_time >= 1, "no kill came in time to mean anything"


def test_what_fills_a_block_is_written_once(tmp_path, monkeypatch):
    """25 draws would fit into a block and come 10 at a time: it takes 20, and none is read to be
    added to.
    """
    (tmp_path / "probe").mkdir()
    store = stream(tmp_path / "probe", num_draws=CHUNK).store
    per_draw = sum(store.read(name, 0, 1).nbytes for name in store.layout.arrays)
    monkeypatch.setattr(_store, "BLOCK_BYTES", 25 * per_draw)
    monkeypatch.delattr(_layout, "_read_block")
    found = stream(tmp_path, seconds=1e9)
    assert found.store.block == 20
    assert_holds(tmp_path, whole())


def test_draws_of_a_whitened_kernel_are_stored_in_the_users_coordinates(tmp_path):
    scale = jnp.asarray([2.0, 0.5])
    whitening = Whitening(
        location=jnp.asarray([1.0, -1.0]),
        scale=scale,
        directions=jnp.zeros((2, 0)),
        stretches=jnp.zeros(0),
    )
    target = Whitened(KERNEL.logdensity, whitening)
    kernel = Transition(
        target, learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=2, step_size=0.2)
    )
    streamed = stream(tmp_path, kernel=kernel, state=kernel.init(STATE.position))
    expected = whitening.forward(streamed.state.position)
    np.testing.assert_allclose(streamed.store.read_position()[:, -1].T, expected)
