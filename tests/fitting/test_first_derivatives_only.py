"""Log densities that have a first derivative only: what `fit` does without, and that it says so."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import PerChain
from capriole.fitting import NoteKind
from capriole.fitting._search import _with_second_derivatives
from capriole.fitting.proposers import _transport
from capriole.fitting.proposers._mode_jumps import find_maxima
from capriole.kernels import SecondDerivatives
from kernels import transport_map
from stored import context

pytestmark = pytest.mark.usefixtures("standard_promotion")
NONE, REVERSE, FULL = SecondDerivatives


def custom(value, gradient):
    """A function with a written first derivative, whose forward pass calls itself."""
    made = jax.custom_vjp(value)
    made.defvjp(lambda x: (made(x), x), lambda x, g: (g * gradient(x),))
    return made


def normal(x):
    return -jnp.sum(x**2) / 2


def funnel(x):
    return -(x[0] ** 2) / 4.5 - jnp.sum(x[1:] ** 2 * jnp.exp(-x[0]) + x[0]) / 2


def by_host(x):
    return jax.pure_callback(lambda x: -x, x, x)


@pytest.mark.parametrize(
    ("function", "second", "words"),
    [
        (normal, FULL, []),
        (custom(normal, lambda x: -x), REVERSE, ["reverse mode only", "marginals", "not computed"]),
        (custom(normal, by_host), NONE, ["none", "marginals", "jumps", "constant force"]),
    ],
)
def test_what_is_missing_is_noted_once(function, second, words):
    known = _with_second_derivatives(context(target=PerChain(function)))
    assert known.second is second
    assert [note.kind for note in known.notes] == [NoteKind.SECOND_DERIVATIVES][: len(words)]
    for word in words:
        assert word in known.notes[0].text
    assert ("jumps" in str(known.notes)) is (second is NONE)


@pytest.mark.parametrize("second", list(SecondDerivatives))
def test_marginals_of_parents_are_asked_for_only_with_second_derivatives(monkeypatch, second):
    asked = []
    estimate = SimpleNamespace(transport=transport_map(2, [0]))
    monkeypatch.setattr(_transport, "estimate_transport", lambda *args, **kwargs: estimate)
    monkeypatch.setattr(_transport, "_profile_of", lambda *args: asked.append(1) or (None, 7))
    monkeypatch.setattr(_transport, "from_user", lambda there, position: np.nan * position)
    known = replace(context(), second=second)
    assert _transport._settled(jax.random.key(0), known) is None
    assert len(asked) == (second is FULL)
    assert known.budget.common.cost.num_gradients == 7 * len(asked)


def two(x):
    return jnp.logaddexp(normal(x - 4), normal(2 * (x + 4)))


def test_modes_are_found_by_reverse_mode_too():
    starts = np.random.default_rng(0).normal(size=(2, 16)) * 6
    (full, _), (reverse, _) = (
        find_maxima(PerChain(f), starts, second)
        for f, second in ((two, FULL), (custom(two, jax.grad(two)), REVERSE))
    )
    assert len(full.centre) == 2
    jax.tree.map(np.testing.assert_allclose, full, reverse)
    assert find_maxima(PerChain(two), starts, NONE) == (None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("train_steps", [0, 300])
def test_a_funnel_with_a_custom_vjp_is_fitted(train_steps):
    found = capriole.fit(
        custom(funnel, jax.grad(funnel)),
        jnp.zeros(4),
        train_steps=train_steps,
        compare=False,
        num_warmup_chains=32,
        num_draws=200,
        num_chains=4,
    )
    assert NoteKind.SECOND_DERIVATIVES in [note.kind for note in found.verdict.notes]
    assert float(found.tree["posterior"]["x"][..., 0].std()) == pytest.approx(1.5, rel=0.25)
