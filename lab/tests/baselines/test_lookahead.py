"""Look-Ahead HMC: global balance by algebra, invariance by statistics, and the reversibility it
must not have.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import PerChain
from capriole.kernels import Leapfrog, Phase, Repeated, Transition
from capriole.sampling import draw_chains
from capriole_lab.baselines import LookAhead, _lookahead, reach, tune_lookahead
from densities import Banana, Mixture2, cliff
from invariance import check_flow, check_invariance, check_symmetry

SKEWED = Mixture2()


def lookahead(target=SKEWED, *, step_size=0.45, refresh=0.2, looks=4, leapfrogs=2):
    return LookAhead(target, jnp.asarray(step_size), jnp.asarray(refresh), leapfrogs, looks)


def orbit_matrix(energy, looks, table=reach):
    """The transition matrix on a closed orbit of states (point, direction): move along, or turn
    round.
    """
    n = len(energy)
    matrix = np.zeros((2 * n, 2 * n))
    for direction, sign in enumerate((1, -1)):
        start, here = np.arange(n), direction * n + np.arange(n)
        ahead = (start + sign * np.arange(looks + 1)[:, None]) % n
        reached = np.asarray(table(jnp.asarray(energy[ahead])))
        for a, probability in enumerate(np.diff(reached, axis=0, prepend=0.0), start=1):
            matrix[here, direction * n + ahead[a]] += probability
        matrix[here, (1 - direction) * n + start] += 1 - reached[-1]
    return matrix


@pytest.mark.parametrize("looks", [1, 2, 4, 6])
def test_global_balance_on_an_orbit_without_detailed_balance(looks):
    energy = 1.5 * np.random.default_rng(0).standard_normal(40)
    p = np.tile(np.exp(-energy), 2)
    p /= p.sum()
    matrix = orbit_matrix(energy, looks)
    assert matrix.min() > -1e-15
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-14)
    np.testing.assert_allclose(p @ matrix, p, atol=1e-16)
    flow = p[:, None] * matrix
    assert np.abs(flow - flow.T).max() > 1e-3


def test_more_looks_turn_less_often():
    energy = 1.5 * np.random.default_rng(0).standard_normal(40)
    p = np.exp(-energy) / np.exp(-energy).sum()
    turned = [p @ orbit_matrix(energy, k)[:40, 40:].sum(axis=1) for k in (1, 2, 4)]
    assert turned[2] < turned[1] < turned[0]


def test_a_point_of_no_density_is_never_moved_to_and_balance_holds_around_it():
    energy = np.random.default_rng(1).standard_normal(20)
    energy[[3, 4, 9]] = np.inf, np.nan, np.inf
    p = np.tile(np.where(np.isfinite(energy), np.exp(-energy), 0), 2)
    matrix = orbit_matrix(energy, 4)
    assert np.isfinite(matrix).all()
    assert matrix[p > 0][:, p == 0].max() == 0
    np.testing.assert_allclose(p @ matrix, p, atol=1e-14)


def without_the_way_back(energy):
    """A mutant: each look accepted by Metropolis alone, as if nothing had been tried from the other
    end.
    """
    reached, looks = jnp.zeros_like(energy[0]), []
    for far in energy[1:]:
        reached = reached + jnp.minimum(1 - reached, jnp.exp(energy[0] - far))
        looks.append(reached)
    return jnp.stack(looks)


def test_mutant_that_forgets_the_way_back_is_found_by_algebra_and_by_statistics(monkeypatch):
    energy = 1.5 * np.random.default_rng(0).standard_normal(40)
    p = np.tile(np.exp(-energy), 2)
    assert np.abs(p @ orbit_matrix(energy, 4, without_the_way_back) - p).max() / p.sum() > 1e-3
    monkeypatch.setattr(_lookahead, "reach", without_the_way_back)
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(
            Forgetful(*lookahead(step_size=1.1, leapfrogs=1).__dict__.values()), SKEWED, steps=4
        )


class Forgetful(LookAhead):
    """Compiled apart from `LookAhead`, since the jitted loop knows kernels by their type."""


class NeverTurns(LookAhead):
    """A mutant: momentum goes on after a rejection."""

    def move(self, rng_key, state):
        new, info = super().move(rng_key, state)
        _, noise_key = jax.random.split(rng_key)
        noise = jax.random.normal(noise_key, state.momentum.shape[::-1], state.momentum.dtype).T
        kept = jnp.sqrt(1 - self.refresh) * state.momentum + jnp.sqrt(self.refresh) * noise
        return new._replace(momentum=jnp.where(info.is_accepted, new.momentum, kept)), info


@pytest.mark.parametrize("target", [SKEWED, Banana()])
def test_invariance(target):
    check_invariance(lookahead(target, step_size=0.9), target)


def test_mutant_that_never_turns_is_not_invariant():
    kernel = NeverTurns(SKEWED, jnp.asarray(1.1), jnp.asarray(0.05), 1, 1)
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(kernel, SKEWED, steps=8)


def test_flow_in_phase_space_is_not_symmetric():
    """In positions alone it is symmetric, for kernels that flip momentum too: the circulation is
    that of (x, v).
    """
    kernel = lookahead(step_size=0.9)
    state = kernel.init(
        jnp.asarray(SKEWED.draw(np.random.default_rng(0), 20_000)), jax.random.key(0)
    )
    new, _ = eqx.filter_jit(kernel.move)(jax.random.key(1), state)
    start, end = (np.stack([s.position[1], s.momentum[1]]) for s in (state, new))
    with pytest.raises(AssertionError, match="flow is not symmetric"):
        check_flow(start, end)
    check_symmetry(kernel, SKEWED)


def test_one_look_is_hmc_that_turns_where_it_rejects():
    kernel = lookahead(step_size=1.2, refresh=0.3, looks=1)
    state = kernel.init(jnp.asarray(SKEWED.draw(np.random.default_rng(0), 500)), jax.random.key(0))
    key = jax.random.key(1)
    new, info = eqx.filter_jit(kernel.move)(key, state)
    phase = Phase(state.position, state.momentum, state.logdensity, state.logdensity_grad)
    end, _ = Leapfrog(kernel.step_size, 2)(SKEWED, phase, jnp.ones(500, bool))
    uniform_key, noise_key = jax.random.split(key)
    kinetic = jnp.sum(end.momentum**2 - state.momentum**2, axis=0) / 2
    accepted = (
        jnp.log(jax.random.uniform(uniform_key, (500,)))
        < end.logdensity - state.logdensity - kinetic
    )
    assert 0.1 < accepted.mean() < 0.9
    np.testing.assert_array_equal(info.is_accepted, accepted)
    np.testing.assert_allclose(
        new.position, np.where(accepted, end.position, state.position), rtol=1e-12
    )
    momentum = np.where(accepted, end.momentum, -state.momentum)
    noise = jax.random.normal(noise_key, (500, 2)).T
    np.testing.assert_allclose(
        new.momentum, np.sqrt(0.7) * momentum + np.sqrt(0.3) * noise, rtol=1e-10, atol=1e-12
    )


def test_gradients_are_those_that_a_lazy_chain_needs():
    kernel = lookahead(step_size=1.2, looks=3)
    state = kernel.init(jnp.asarray(SKEWED.draw(np.random.default_rng(0), 300)), jax.random.key(0))
    draws = draw_chains(jax.random.key(1), kernel, state, num_draws=20)
    used, moved = draws.record.n_steps, draws.record.accepted > 0
    assert set(np.unique(used)) == {2, 4, 6}
    assert (used[~moved] == 6).all()
    assert (used[moved] == 2).mean() > 0.3
    assert draws.num_gradients == used.sum()
    assert draws.state.momentum.shape == (2, 300)


def test_chains_stay_where_the_density_is_finite():
    kernel = lookahead(PerChain(cliff), step_size=0.5)
    state = kernel.init(jnp.zeros((2, 60)), jax.random.key(0))
    draws = draw_chains(jax.random.key(1), kernel, state, num_draws=30)
    assert np.isfinite(draws.record.lp).all()
    assert draws.record.nonfinite.sum() > 10


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 1, got 2 and 0"):
        lookahead(looks=0)
    with pytest.raises(ValueError, match="pass rng_key"):
        lookahead().init(jnp.zeros((2, 3)))


def test_tuning_keeps_the_best_pair():
    starts = jnp.asarray(SKEWED.draw(np.random.default_rng(0), 8))
    tuning = tune_lookahead(
        jax.random.key(0),
        SKEWED,
        starts,
        lambda draws: float(np.mean(np.abs(np.diff(draws, axis=1)))),
        step_sizes=[0.01, 0.3, 50.0],
        refreshes=[0.1, 1.0],
        num_leapfrogs=3,
        num_draws=50,
        num_warmup=5,
    )
    assert tuning.step_size == 0.3
    assert tuning.scores.shape == (6,)
    assert np.isnan(tuning.scores[tuning.step_sizes == 50]).all()
    assert isinstance(tuning.transition, LookAhead)
    assert not isinstance(tuning.transition, Transition)


def test_tuning_asks_what_a_draw_costs():
    """Draws of equal worth: where the first look nearly always does, a step costs M gradients."""
    starts = jnp.asarray(SKEWED.draw(np.random.default_rng(0), 8))
    grid = {
        "step_sizes": [0.01, 1.3],
        "refreshes": [0.3],
        "num_leapfrogs": 3,
        "num_draws": 50,
        "num_warmup": 5,
    }
    tuning = tune_lookahead(jax.random.key(0), SKEWED, starts, lambda draws: 1.0, **grid)
    assert tuning.step_size == 0.01
    assert tuning.scores[0] == pytest.approx(1 / 3, rel=0.01)
    assert tuning.scores[1] < 0.9 / 3


@pytest.mark.usefixtures("standard_promotion")
def test_the_front_door_samples_with_it():
    kernel = Repeated(lookahead(PerChain(lambda x: -jnp.sum(x**2) / 2), step_size=0.3), 2)
    tree = capriole.sample(kernel, jnp.zeros(2), seed=0, num_chains=4, num_draws=20, num_warmup=20)
    assert tree["posterior"]["x"].shape == (4, 20, 2)
    assert np.all(np.std(tree["posterior"]["x"], axis=1) > 0.1)
