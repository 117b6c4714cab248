"""The sampling loop: what may change without changing a draw, what is counted, and HMC against
BlackJAX.
"""

import blackjax.mcmc.hmc as blackjax_hmc
import blackjax.mcmc.integrators as integrators
import blackjax.mcmc.metrics as metrics
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import checks
from capriole.kernels import CrankNicolson, Leapfrog, Mixture, Rotation, Transition, hmc, per_chain
from capriole.runtime import CompileClock
from capriole.sampling import draw_chains
from densities import Banana, Gaussian
from kernels import learned

F64 = jnp.dtype("float64")
KERNEL = Transition(Banana(), learned(2, 0.25, heads=0.7)(2, F64))
KEY = jax.random.key(11)


def starts(kernel, chains=8, dim=2, dtype=F64):
    return kernel.init(jnp.asarray(np.random.default_rng(0).normal(size=(dim, chains)), dtype))


def draws(num=120, kernel=KERNEL, chains=8, **options):
    return draw_chains(KEY, kernel, starts(kernel, chains), num_draws=num, **options)


def assert_same(a, b):
    for name in a.record._fields:
        np.testing.assert_array_equal(
            getattr(a.record, name), getattr(b.record, name), err_msg=name
        )
    jax.tree.map(np.testing.assert_array_equal, a.state, b.state)


@pytest.mark.parametrize("chunk_size", [7, 50])
def test_draws_do_not_depend_on_the_chunk_size(chunk_size):
    assert_same(draws(chunk_size=200), draws(chunk_size=chunk_size))


PLAIN = {
    "hmc": hmc(Banana(), step_size=0.2, num_leapfrogs=3),
    "jittered": hmc(Banana(), step_size=0.2, num_leapfrogs=3, jitter=0.5),
    "rotation": Transition(Banana(), Rotation(jnp.asarray(0.7), jnp.asarray(2))),
    "free": Transition(Banana(), CrankNicolson(jnp.asarray(0.7))),
}


@pytest.mark.parametrize("name", [*PLAIN, "mixture"])
def test_with_numbers_per_chain_a_kernel_is_the_same(name):
    kernel = Mixture((KERNEL, *PLAIN.values()), (0.2,) * 5) if name == "mixture" else PLAIN[name]
    spread = per_chain(kernel, 7)
    sizes = [leaf for leaf in jax.tree.leaves(spread) if getattr(leaf, "shape", None) == (7,)]
    assert len(sizes) == (4 if name == "mixture" else 1)
    one, other = draws(20, kernel, 7), draws(20, spread, 7)
    np.testing.assert_allclose(one.record.position, other.record.position, rtol=1e-9)
    np.testing.assert_array_equal(one.record.n_steps, other.record.n_steps)
    assert jax.tree.structure(per_chain(spread, 7)) == jax.tree.structure(spread)


def test_another_number_of_leapfrogs_compiles_nothing():
    with CompileClock() as clock:
        draws(20, Transition(Banana(), Leapfrog(jnp.asarray(0.2), jnp.asarray(3))))
    assert clock.compile_seconds > 0
    kernel, state = Transition(Banana(), Leapfrog(jnp.asarray(0.2), jnp.asarray(4))), starts(KERNEL)
    with CompileClock() as clock:
        found = draw_chains(KEY, kernel, state, num_draws=20)
    assert clock.compile_seconds == 0
    plain = draws(20, hmc(Banana(), step_size=0.2, num_leapfrogs=4))
    np.testing.assert_allclose(found.record.position, plain.record.position, rtol=1e-9)
    assert found.num_gradients == plain.num_gradients == 20 * 8 * 4


def test_a_continued_run_is_the_whole_run():
    whole, first = draws(chunk_size=50), draws(num=70, chunk_size=50)
    rest = draw_chains(KEY, KERNEL, first.state, num_draws=50, first_step=70, chunk_size=50)
    np.testing.assert_array_equal(
        np.concatenate([first.record.position, rest.record.position], axis=1), whole.record.position
    )
    jax.tree.map(np.testing.assert_array_equal, rest.state, whole.state)


def test_thinning_keeps_every_third_draw_and_counts_all_steps():
    full, thin = draws(chunk_size=50).record, draws(num=40, thin=3, chunk_size=50).record
    for name in ("position", "lp", "energy", "log_ratio", "log_det", "direction", "jump_sq"):
        np.testing.assert_array_equal(
            getattr(thin, name), getattr(full, name)[:, 2::3], err_msg=name
        )
    for name in ("accepted", "diverging", "nonfinite", "n_steps"):
        np.testing.assert_array_equal(
            getattr(thin, name), getattr(full, name).reshape(8, 40, 3).sum(axis=2), err_msg=name
        )
    np.testing.assert_allclose(
        thin.acceptance_rate, full.acceptance_rate.reshape(8, 40, 3).mean(axis=2), rtol=1e-14
    )


def test_draws_do_depend_on_the_key_and_differ_between_chains():
    a = draws(chunk_size=50).record.position
    b = draw_chains(
        jax.random.key(12), KERNEL, starts(KERNEL), num_draws=120, chunk_size=50
    ).record.position
    assert np.abs(a - b).max() > 0.1
    final = a[:, -1, :]
    assert len(np.unique(final.round(9), axis=0)) == len(final)


def test_first_chains_do_not_depend_on_the_number_of_chains():
    kernel = hmc(Gaussian(jnp.asarray([1.0, 2.0])), step_size=jnp.asarray(0.3), num_leapfrogs=4)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 16)))
    few, many = (
        draw_chains(KEY, kernel, kernel.init(x[:, :k]), num_draws=50, chunk_size=50).record.position
        for k in (8, 16)
    )
    np.testing.assert_allclose(few, many[:8], rtol=1e-12, atol=1e-13)


def test_gradients_are_counted():
    result = draws(num=40, thin=3, chunk_size=50)
    assert result.num_gradients == 40 * 3 * 8 * 2
    assert result.record.n_steps.tolist() == [[6] * 40] * 8
    part = hmc(Banana(), step_size=jnp.asarray(0.3), num_leapfrogs=5)
    result = draws(num=60, kernel=Mixture((KERNEL, part), (0.5, 0.5)), chunk_size=60)
    per_step = result.record.n_steps
    assert set(np.unique(per_step)) == {2, 5}
    assert np.all(per_step == per_step[:1])
    assert result.num_gradients == per_step.sum()
    # 60 fair choices: within 5 standard errors of 30.
    assert abs((per_step[0] == 5).sum() - 30) < 5 * np.sqrt(15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(dtype):
    kernel = Transition(Banana(), learned(2, 0.25)(2, jnp.dtype(dtype)))
    result = draw_chains(KEY, kernel, starts(kernel, dtype=dtype), num_draws=20, chunk_size=20)
    floats = {
        name: v.dtype
        for name, v in result.record._asdict().items()
        if np.issubdtype(v.dtype, np.floating)
    }
    assert len(floats) == 7
    assert set(floats.values()) == {np.dtype(dtype)}
    assert result.record.position.shape == (8, 20, 2)
    assert result.state.position.dtype == dtype


def test_record_agrees_with_itself():
    record = draws(chunk_size=50).record
    np.testing.assert_allclose(
        record.lp,
        np.asarray(Banana()(jnp.asarray(np.moveaxis(record.position, 2, 0)))),
        rtol=1e-12,
        atol=1e-13,
    )
    moved = np.any(np.diff(record.position, axis=1) != 0, axis=2)
    np.testing.assert_array_equal(moved, record.accepted[:, 1:].astype(bool))
    np.testing.assert_allclose(
        record.acceptance_rate, np.exp(np.minimum(record.log_ratio, 0)), rtol=1e-12
    )
    assert set(np.unique(record.direction)) == {-1, 1}


def test_interruption_returns_the_whole_chunks():
    seen = []

    def progress(event, record):
        seen.append((event.step, event.num_steps, record.position.shape))
        if len(seen) == 2:
            raise KeyboardInterrupt

    result = draws(chunk_size=50, progress=progress)
    assert not result.completed
    assert seen == [(50, 120, (50, 2, 8)), (100, 120, (50, 2, 8))]
    np.testing.assert_array_equal(
        result.record.position, draws(chunk_size=50).record.position[:, :100]
    )
    rest = draw_chains(KEY, KERNEL, result.state, num_draws=20, first_step=100, chunk_size=50)
    jax.tree.map(np.testing.assert_array_equal, rest.state, draws(chunk_size=50).state)


def test_arguments_are_checked():
    for bad in ({"num_draws": 0}, {"num_draws": 5, "thin": 0}, {"num_draws": 5, "chunk_size": 0}):
        with pytest.raises(ValueError, match="must be positive, got"):
            draw_chains(KEY, KERNEL, starts(KERNEL), **bad)
    single = KERNEL.init(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"\(dim, chains\), got \(2,\)"):
        draw_chains(KEY, KERNEL, single, num_draws=5)


def test_leapfrog_and_acceptance_are_blackjaxs():
    eps, steps, target = 0.7, 7, Banana()
    transition = Transition(target, Leapfrog(jnp.asarray(eps), steps))
    x, v, _ = checks.phase_points(2, 6)
    ours = checks.propose_from(transition, x, v, jnp.ones(6, bool))

    def theirs(x, v):
        metric = metrics.default_metric(jnp.ones(2))
        one = integrators.velocity_verlet(target, metric.kinetic_energy)
        start = integrators.new_integrator_state(target, x, v)
        end = jax.lax.fori_loop(0, steps, lambda _, s: one(s, eps), start)

        def energy(s):
            return metric.kinetic_energy(s.momentum) - s.logdensity

        return end, jnp.minimum(1, jnp.exp(energy(start) - energy(end)))

    with jax.numpy_dtype_promotion("standard"):
        end, probability = jax.vmap(theirs, in_axes=1, out_axes=-1)(x, v)
    assert probability.min() < 0.99
    for name in ("position", "momentum", "logdensity", "logdensity_grad"):
        np.testing.assert_allclose(
            getattr(ours.end, name), getattr(end, name), rtol=1e-12, atol=1e-12, err_msg=name
        )
    np.testing.assert_allclose(ours.acceptance, probability, rtol=1e-12)


def test_state_and_info_use_blackjaxs_names():
    kernel = hmc(Banana(), step_size=jnp.asarray(0.3), num_leapfrogs=3)
    state = kernel.init(jnp.zeros(2))
    assert state._fields == blackjax_hmc.HMCState._fields[: len(state._fields)]
    _, info = kernel.move(jax.random.key(0), state)
    shared = set(info._fields) & set(blackjax_hmc.HMCInfo._fields)
    assert {"acceptance_rate", "is_accepted", "is_divergent", "energy"} <= shared
