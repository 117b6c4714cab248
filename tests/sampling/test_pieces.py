"""Loops in pieces: the same digits for any length of them, and what a stop leaves."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import runtime
from capriole.kernels import PerChain
from capriole.runtime import Stop, telling
from capriole.sampling import draw_chains, run_nuts
from capriole.sampling._stan_windows import StanWindows
from tiny import CHUNK, KERNEL, KEY, STATE, whole

SCALE = np.array([1.0, 5.0])


def wide(x):
    return -jnp.sum((x / SCALE.astype(x.dtype)) ** 2) / 2


def in_pieces_of(monkeypatch, num_steps):
    monkeypatch.setattr(runtime.Pace, "next", lambda self, left: min(left, num_steps))


@pytest.mark.parametrize(("num_steps", "thin"), [(1, 1), (3, 1), (3, 2)])
def test_draws_are_the_same_for_any_length_of_pieces(monkeypatch, num_steps, thin):
    in_pieces_of(monkeypatch, 10**9)
    expected = whole(20, thin)
    in_pieces_of(monkeypatch, num_steps)
    found = whole(20, thin)
    for one, other in zip(found.record, expected.record, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stop_inside_a_chunk_leaves_the_pieces_before_it(monkeypatch):
    in_pieces_of(monkeypatch, 3)
    monkeypatch.setattr("capriole.runtime._progress.BEAT_SECONDS", 0.0)
    with Stop() as stop:

        def tell(event):
            if event.step == 16:
                stop.request()

        with telling(tell):
            runtime.begin_stage("sample")
            found = draw_chains(KEY, KERNEL, STATE, num_draws=20, chunk_size=CHUNK)
    assert not found.completed
    assert found.record.lp.shape[1] == 16
    np.testing.assert_array_equal(found.record.lp, whole(20).record.lp[:, :16])


@pytest.mark.parametrize("dense", [False, True])
def test_windows_of_adaptation_have_blackjaxs_digits(dense):
    key, start, num = jax.random.key(4), jnp.asarray([1.0, -2.0]), 120
    theirs = blackjax.window_adaptation(
        blackjax.nuts, wide, is_mass_matrix_diagonal=not dense, target_acceptance_rate=0.8
    )
    with jax.numpy_dtype_promotion("standard"):
        (state, found), info = theirs.run(key, start, num)
        kernel = blackjax.nuts.build_kernel()
        windows = StanWindows(wide, kernel, num_steps=num, dense=dense, target_acceptance=0.8)
        keys = windows.keys(key)
        chain = jax.jit(windows.init)(start)
        chain = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), chain)
        chain = jax.jit(
            lambda chain: jax.lax.fori_loop(0, num, lambda t, c: windows.step(keys[t], c, t), chain)
        )(chain)
        ours, step_size, metric = windows.final(chain)
    np.testing.assert_array_equal(ours.position, state.position)
    np.testing.assert_array_equal(step_size, found["step_size"])
    np.testing.assert_array_equal(metric, found["inverse_mass_matrix"])
    assert int(chain.num_gradients) == int(info.info.num_integration_steps.sum())


def nuts(num_draws=30):
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    options = {"num_draws": num_draws, "num_warmup": 40}
    return run_nuts(jax.random.key(2), PerChain(wide), starts, **options)


def test_draws_of_nuts_are_the_same_for_any_length_of_pieces(monkeypatch):
    in_pieces_of(monkeypatch, 7)
    found = nuts()
    in_pieces_of(monkeypatch, 10**9)
    expected = nuts()
    np.testing.assert_array_equal(found.position, expected.position)
    assert found.warmup_gradients == expected.warmup_gradients
    assert found.completed


@pytest.mark.parametrize("step", [20, 61])
def test_a_stop_of_nuts_leaves_its_draws_or_is_raised_while_it_adapts(monkeypatch, step):
    in_pieces_of(monkeypatch, 7)
    monkeypatch.setattr("capriole.runtime._progress.BEAT_SECONDS", 0.0)
    expected = nuts()
    with Stop() as stop:

        def tell(event):
            if event.step >= step:
                assert event.num_steps == 70
                stop.request()

        with telling(tell):
            runtime.begin_stage("nuts")
            if step < 40:
                with pytest.raises(KeyboardInterrupt):
                    nuts()
                return
            found = nuts()
    assert not found.completed
    assert found.position.shape == (4, 21, 2)
    np.testing.assert_array_equal(found.position, expected.position[:, :21])
