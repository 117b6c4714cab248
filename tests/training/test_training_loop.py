"""Training: what a step changes and what it does not, tempering, skipped updates, rollback,
interruption.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole import PerChain, TrainingDivergedError
from capriole.kernels import Repeated, Transition, hmc, learned_leapfrog
from capriole.training import (
    LogJump,
    PaperLoss,
    Recipe,
    TrainResult,
    adam,
    cooling,
    decay,
    init_train_state,
    train_best,
    train_kernel,
    train_step,
)
from capriole.training import _loop as _train
from densities import Correlated, Gaussian, Mixture2
from kernels import learned

pytestmark = pytest.mark.usefixtures("standard_promotion")
CHAINS = 32


def kernel(target=None, **options):
    settings = {"dim": 2, "num_leapfrogs": 3, "step_size": 0.2, "width": 8} | options
    return Transition(
        Correlated.of(25.0, 0.04) if target is None else target,
        learned_leapfrog(jax.random.key(0), **settings),
    )


def positions(seed=1, chains=CHAINS):
    return jax.random.normal(jax.random.key(seed), (2, chains))


RATE = 5e-3
RECIPE = Recipe(PaperLoss(), adam(RATE))
CHUNK = 10
"""Steps of a chunk: one number and one recipe for most tests, so that they share a program."""
step = eqx.filter_jit(train_step)


def one_step(transition, recipe=RECIPE, seed=0):
    return step(jax.random.key(seed), init_train_state(transition, positions(), recipe), recipe)


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_step_is_pure_and_deterministic():
    state = init_train_state(kernel(), positions(), RECIPE)
    before = jax.tree.map(lambda leaf: np.array(leaf) if eqx.is_array(leaf) else leaf, state)
    first = step(jax.random.key(0), state, RECIPE)
    assert_equal(eqx.filter(state, eqx.is_array), eqx.filter(before, eqx.is_array))
    assert_equal(
        eqx.filter(first, eqx.is_array),
        eqx.filter(step(jax.random.key(0), state, RECIPE), eqx.is_array),
    )
    other = step(jax.random.key(1), state, RECIPE)
    assert float(other[1].loss) != float(first[1].loss)


def test_only_the_dynamics_floats_are_trained():
    context = jnp.asarray(np.random.default_rng(0).normal(size=(3, CHAINS)))
    start = Transition(Correlated.of(), learned(3, context=3)(2, jnp.dtype("float64")), context)
    end = one_step(start)[0].transition
    np.testing.assert_array_equal(end.dynamics.masks, start.dynamics.masks)
    np.testing.assert_array_equal(end.logdensity.whiten, start.logdensity.whiten)
    np.testing.assert_array_equal(end.context, context)
    floats = [jax.tree.leaves(eqx.filter(t.dynamics, eqx.is_inexact_array)) for t in (start, end)]
    assert len(floats[0]) == 15
    for a, b in zip(*floats, strict=True):
        assert np.any(a != b)
        # Adam's first step moves every weight by the learning rate at most.
        assert np.abs(a - b).max() <= 1.0001 * RATE


def test_the_loss_of_a_step_is_the_objective_of_its_proposals():
    transition = kernel()
    _, metrics = one_step(transition)
    target_key = jax.random.split(jax.random.key(0), 4)[0]
    proposal = transition.propose(target_key, transition.init(positions()))
    expected = PaperLoss()(proposal.start.position, proposal.end.position, proposal.acceptance)
    np.testing.assert_allclose(metrics.loss, expected, rtol=1e-10)
    np.testing.assert_allclose(metrics.acceptance_rate, np.mean(proposal.acceptance), rtol=1e-10)


def test_the_burn_in_term_adds_its_weighted_loss():
    transition = kernel()

    def recipe(weight):
        return RECIPE._replace(
            burn_in=lambda key: jax.random.normal(key, (2, CHAINS)), burn_in_weight=weight
        )

    losses = [float(one_step(transition)[1].loss)]
    losses += [float(one_step(transition, recipe(weight))[1].loss) for weight in (1.0, 3.0)]
    assert losses[1] != losses[0]
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-9)


def test_the_loss_falls_on_the_correlated_gaussian():
    result = train_kernel(
        jax.random.key(3), kernel(), positions(), RECIPE, num_steps=600, chunk_size=CHUNK
    )
    loss = result.history["loss"]
    # Ranks, because the reciprocal in the loss has heavy tails.
    assert stats.mannwhitneyu(loss[-100:], loss[:100], alternative="less").pvalue < 1e-4
    assert result.completed
    assert result.history["acceptance_rate"].shape == (600,)
    assert result.num_gradients == 600 * 3 * CHAINS
    assert result.skipped_updates == result.rollbacks == 0


def test_gradients_of_companions_burn_in_and_undone_chunks_count(monkeypatch):
    """Those that a chain uses: 3 for the proposal, 3 again for the burn-in term's start, 2 HMC
    moves of 5.
    """

    def companion(logdensity):
        return Repeated(hmc(logdensity, step_size=0.1, num_leapfrogs=5), 2)

    burn_in = {"burn_in": lambda key: jax.random.normal(key, (2, CHAINS)), "burn_in_weight": 1.0}
    recipe = Recipe(PaperLoss(), adam(1e-3), companion=companion, **burn_in)
    healthy = iter([True, False, True])
    monkeypatch.setattr(_train, "_is_healthy", lambda *_: next(healthy))
    result = train_kernel(
        jax.random.key(3), kernel(), positions(), recipe, num_steps=20, chunk_size=10
    )
    assert result.num_gradients == 30 * CHAINS * 16
    assert result.rollbacks == 1


def a_result(loss):
    history = dict.fromkeys(("loss", "is_skipped"), np.asarray(loss, float))
    return TrainResult(kernel(), kernel().init(positions()), history, 1, 0.0, 0.0, 0, 0, True)


def chosen(*outcomes):
    """The number of the candidate that goes on; an outcome is a history of losses, or None for a
    collapse.
    """
    dynamics = [kernel(step_size=0.1 * (i + 1)) for i in range(len(outcomes))]
    started = []

    def trainer(stage, key, transition, position, recipe, **options):
        started.append(float(np.exp(transition.dynamics.log_step_size)))
        if stage == "train":
            return a_result([0.0])
        if outcomes[len(started) - 1] is None:
            raise TrainingDivergedError("collapsed")
        return a_result(outcomes[len(started) - 1])._replace(transition=transition)

    train_best(
        jax.random.key(0),
        dynamics,
        positions(),
        RECIPE,
        num_steps=1,
        candidate_steps=8,
        trainer=trainer,
    )
    return round(started[-1] / 0.1) - 1


def test_the_candidate_with_the_lowest_loss_goes_on():
    good, better, nan = (
        [9, 9, 9, 9, 9, 9, 2, 2],
        [9, 9, 9, 9, 9, 9, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, np.nan],
    )
    assert chosen(good, better) == 1
    assert chosen(nan, good) == 1, "half of its last losses are no numbers"
    assert chosen(good, nan) == 0
    assert chosen([5] * 12 + [1, 1, 1, np.nan], [2] * 16) == 0, "one is no reason"
    assert chosen(None, good) == 1
    assert chosen(good, None) == 0
    with pytest.raises(TrainingDivergedError, match="collapsed"):
        chosen(None, None)


def test_training_does_not_depend_on_the_chunk_size():
    runs = [
        train_kernel(
            jax.random.key(3), kernel(), positions(), RECIPE, num_steps=30, chunk_size=size
        )
        for size in (30, CHUNK)
    ]
    np.testing.assert_array_equal(runs[0].history["loss"], runs[1].history["loss"])
    assert_equal(*(eqx.filter(r.transition, eqx.is_array) for r in runs))


def cliff(position):
    """NaN, and so is the gradient, beyond x0 = 2.5."""
    return jnp.sqrt(2.5 - position[0]) - jnp.sum(position**2) / 2


def test_updates_that_are_not_finite_are_skipped_and_counted():
    start = kernel(PerChain(cliff), step_size=0.5)
    recipe = Recipe(PaperLoss(), adam(1e-2))
    result = train_kernel(
        jax.random.key(0), start, positions() / 2, recipe, num_steps=60, chunk_size=60
    )
    skipped = result.history["is_skipped"].astype(bool)
    assert 0 < skipped.sum() < 60
    assert result.skipped_updates == skipped.sum()
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(eqx.filter(result.transition, eqx.is_inexact_array))
    )
    assert all(np.isfinite(leaf).all() for leaf in result.chains)


def test_a_skipped_update_leaves_the_kernel_as_it_was():
    start = kernel(PerChain(lambda x: jnp.sqrt(-1 - jnp.sum(x**2))))
    (after, metrics) = one_step(start)
    assert bool(metrics.is_skipped)
    assert_equal(eqx.filter(after.transition, eqx.is_array), eqx.filter(start, eqx.is_array))
    assert int(after.step) == 1


def test_tempering_ends_at_one_and_chains_hold_the_untempered_density():
    target = Mixture2()
    recipe = Recipe(LogJump(), adam(1e-3), temperature=cooling(10.0, num_steps=30))
    result = train_kernel(
        jax.random.key(0), kernel(target), positions(), recipe, num_steps=40, chunk_size=CHUNK
    )
    temperature = result.history["temperature"]
    assert temperature[0] == 10
    assert np.all(np.diff(temperature) <= 1e-12)
    np.testing.assert_allclose(temperature[15], np.sqrt(10), rtol=1e-6)
    np.testing.assert_allclose(temperature[30:], 1, rtol=1e-6)
    again = Transition(target, result.transition.dynamics).init(result.chains.position)
    np.testing.assert_allclose(result.chains.logdensity, again.logdensity, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(
        result.chains.logdensity_grad, again.logdensity_grad, rtol=1e-9, atol=1e-10
    )
    half = train_kernel(
        jax.random.key(0), kernel(target), positions(), recipe, num_steps=10, chunk_size=10
    )
    again = Transition(target, half.transition.dynamics).init(half.chains.position)
    np.testing.assert_allclose(half.chains.logdensity, again.logdensity, rtol=1e-10, atol=1e-11)


def test_a_companion_moves_the_chains_but_not_the_kernel():
    def companion(logdensity):
        return hmc(logdensity, step_size=jnp.asarray(0.1), num_leapfrogs=2)

    plain, (after, metrics) = (
        one_step(kernel()),
        one_step(kernel(), RECIPE._replace(companion=companion)),
    )
    assert_equal(
        eqx.filter(plain[0].transition, eqx.is_array), eqx.filter(after.transition, eqx.is_array)
    )
    assert float(metrics.loss) == float(plain[1].loss)
    assert np.mean(np.any(after.chains.position != plain[0].chains.position, axis=0)) > 0.5


def test_collapse_is_rolled_back_and_then_named():
    hopeless = kernel(step_size=1e4)
    with pytest.raises(TrainingDivergedError, match="smaller step_size") as error:
        train_kernel(
            jax.random.key(0),
            hopeless,
            positions(),
            RECIPE,
            num_steps=20,
            chunk_size=10,
            max_rollbacks=2,
        )
    assert "acceptance 0" in str(error.value)
    assert "after step 0" in str(error.value)
    assert error.value.num_gradients == 2 * 10 * 3 * CHAINS, (
        "two chunks of ten steps of three leapfrogs"
    )


def test_interruption_returns_the_last_whole_chunk():
    events = []

    def progress(event):
        events.append(event)
        if event.step == 20:
            raise KeyboardInterrupt

    result = train_kernel(
        jax.random.key(3),
        kernel(),
        positions(),
        RECIPE,
        num_steps=30,
        chunk_size=10,
        progress=progress,
    )
    assert not result.completed
    assert [(e.phase, e.step, e.num_steps) for e in events] == [
        ("train", 10, 30),
        ("train", 20, 30),
    ]
    assert len(result.history["loss"]) == 20
    whole = train_kernel(
        jax.random.key(3), kernel(), positions(), RECIPE, num_steps=20, chunk_size=10
    )
    assert_equal(
        eqx.filter(result.transition, eqx.is_array), eqx.filter(whole.transition, eqx.is_array)
    )


def test_schedules():
    rate = decay(1e-2, num_steps=100, hold=0.5, final=0.1)
    assert float(rate(0)) == float(rate(49)) == pytest.approx(1e-2)
    assert float(rate(100)) == pytest.approx(1e-3, rel=1e-5)


def test_float32_training_stays_float32():
    target = Gaussian(jnp.ones(2, jnp.float32))
    start = kernel(target, dtype=jnp.dtype("float32"))
    recipe = Recipe(PaperLoss(), adam(1e-3), temperature=cooling(2.0, num_steps=5))
    result = train_kernel(
        jax.random.key(0), start, positions().astype("float32"), recipe, num_steps=10, chunk_size=10
    )
    kinds = {
        leaf.dtype
        for leaf in jax.tree.leaves(
            eqx.filter((result.transition, result.chains), eqx.is_inexact_array)
        )
    }
    assert kinds == {jnp.dtype("float32")}
