"""Densities of simulated models fit their draws; kernels are moved to other data; planted bugs are
what they say.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, estimate_whitening
from capriole.kernels import Jittered, Leapfrog, Mixture, Repeated, Transition
from capriole_lab.calibration import (
    BUGS,
    Hierarchy,
    LogisticModel,
    NormalModel,
    Posterior,
    bugs_of,
    chi_square_p,
    randomised_ranks,
    retargeted,
    reversible_path,
    spoiled,
)
from densities import Banana, Gaussian, Mixture2
from kernels import leapfrog, learned

F64 = jnp.dtype("float64")


@pytest.mark.parametrize(
    "model", [NormalModel(), Hierarchy(), LogisticModel()], ids=lambda m: type(m).__name__
)
def test_log_densities_fit_the_draws(model):
    """Stein: E[grad log p] = 0 and E[x_i d_j log p] = -delta_ij over joint draws, to 5 standard
    errors.
    """
    position, data = model.draw(jax.random.key(0), 20_000)
    target = Posterior(model, data, jnp.ones(()))
    grad = np.asarray(jax.grad(lambda x: target(x).sum())(position))
    terms = np.concatenate([grad, *(grad * np.asarray(x) for x in position)])
    expected = np.concatenate([np.zeros(model.dim), -np.eye(model.dim).ravel()])
    z = (terms.mean(axis=1) - expected) / (terms.std(axis=1) / np.sqrt(terms.shape[1]))
    assert np.abs(z).max() < 5
    assert set(model.quantities(position, data)) == {
        *model.names,
        "log likelihood",
        "log posterior",
    }


def test_data_are_those_of_each_chain_or_of_all():
    model = NormalModel()
    position, data = model.draw(jax.random.key(1), 5)
    each = Posterior(model, data, jnp.ones(()))(position)
    one = [Posterior(model, data[:, i], jnp.ones(()))(position[:, i]) for i in range(5)]
    same = Posterior(model, data[:, 0], jnp.ones(()))(position)
    np.testing.assert_allclose(each, jnp.stack(one), rtol=1e-12)
    assert same.shape == (5,)
    np.testing.assert_allclose(same[0], each[0], rtol=1e-12)
    np.testing.assert_allclose(
        Posterior(model, data, jnp.zeros(()))(position), model.log_prior(position), rtol=1e-12
    )


def kernels():
    network = Transition(Banana(), learned(2, 0.3, heads=0.7)(2, F64))
    rotated = Whitened(
        Banana(), estimate_whitening(np.random.default_rng(0).normal([[1.0], [2.0]], size=(2, 500)))
    )
    plain = Transition(rotated, leapfrog(3, 0.4)(2, F64))
    jittered = Jittered(Transition(Banana(), leapfrog(2, 0.4)(2, F64)), 0.5, 1.5)
    return {
        "network": network,
        "whitened": plain,
        "jittered": jittered,
        "mixture": Mixture((network, jittered), (0.6, 0.4)),
    }


@pytest.mark.parametrize("name", list(kernels()))
def test_a_kernel_for_another_target_moves_like_one_made_for_it_and_no_bug_is_the_kernel(name):
    kernel, other = kernels()[name], Gaussian(jnp.asarray([0.5, 2.0]))
    moved = retargeted(kernel, other)
    inner = moved.target.logdensity if name == "whitened" else moved.target
    assert eqx.tree_equal(inner, other)
    state = moved.init(jnp.asarray(np.random.default_rng(1).normal(size=(2, 50))))
    step = eqx.filter_jit(lambda k, s: k.move(jax.random.key(2), s))
    (expected, _), (found, _) = step(moved, state), step(spoiled(moved, BUGS["none"]), state)
    np.testing.assert_allclose(found.position, expected.position, rtol=1e-12)
    np.testing.assert_allclose(
        found.logdensity,
        other(found.position) if name != "whitened" else moved.target(found.position),
    )
    changed = {
        bug: np.any(step(spoiled(moved, BUGS[bug]), state)[0].position != found.position)
        for bug in bugs_of(moved)
    }
    assert changed
    assert all(changed.values()), changed


def test_context_goes_with_the_data():
    kernel = Transition(Banana(), learned(2, 0.3, context=6)(2, F64), jnp.zeros((6, 4)))
    context = jnp.ones((6, 9))
    assert (
        retargeted(Mixture((kernel,), (1.0,)), Banana(), context).transitions[0].context is context
    )
    assert retargeted(Transition(Banana(), leapfrog(2)(2, F64)), Banana(), context).context is None


def test_bugs_that_are_none_are_not_planted():
    assert bugs_of(kernels()["jittered"]) == ["inverted ratio", "no kinetic energy"]
    assert bugs_of(kernels()["mixture"]) == [name for name in BUGS if name != "none"]


def test_kernels_of_other_kinds_are_refused():
    kernel = Repeated(Transition(Banana(), Leapfrog(jnp.asarray(0.1), 2)), 2)
    with pytest.raises(TypeError, match="cannot give Repeated another target"):
        retargeted(kernel, Banana())
    with pytest.raises(TypeError, match="cannot spoil Repeated"):
        spoiled(kernel, BUGS["none"])


def path_p(kernel, target, length=6, chains=6000):
    start = jnp.asarray(target.draw(np.random.default_rng(3), chains))
    place = jax.random.randint(jax.random.key(4), (chains,), 0, length)
    path = np.array(reversible_path(jax.random.key(5), kernel, kernel.init(start), place, length))
    columns = np.arange(chains)
    np.testing.assert_array_equal(path[place, :, columns], start.T)
    assert np.mean(path[0] != path[-1]) > 0.5, "the chains move"
    values = np.array(jax.vmap(target)(jnp.asarray(path)))
    own = values[place, columns]
    values[place, columns] = np.inf
    return chi_square_p(randomised_ranks(own, values, np.random.default_rng(6)), length)


@pytest.mark.parametrize("name", ["network", "mixture"])
def test_ranks_on_a_path_are_uniform_unless_there_is_a_bug(name):
    target = Mixture2()
    kernel = retargeted(kernels()[name], target)
    assert path_p(kernel, target) > 1e-4
    assert path_p(spoiled(kernel, BUGS["inverted ratio"]), target) < 1e-9
    assert path_p(spoiled(kernel, BUGS["always forward"]), target) < 1e-4
