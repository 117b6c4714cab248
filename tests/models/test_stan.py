"""Stan models: fast on a stub of BridgeStan's methods, slow on Stan itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.adaptation import bending, profile
from capriole.kernels import SecondDerivatives, StoppedForce, second_derivatives, value_and_grad
from capriole.models import ModelError, as_logdensity, from_stan
from capriole.models._checks import has_second_derivative
from stan_compiler import CompiledStan, can_compile
from stan_stub import EFFECTS, ERRORS, BridgeStanStub, by_hand

with_stan = pytest.mark.skipif(not can_compile(), reason="needs g++ and the httpstan wheel")


def batch_of(model, num, seed=0):
    rng = np.random.default_rng(seed)
    return {k: v + rng.normal(size=(num, *np.shape(v))) for k, v in model.init.items()}


@pytest.fixture
def stub():
    return BridgeStanStub()


def test_value_and_gradient_are_stans(stub):
    """Declared as z, a, b: sorted names would hand a's numbers to z."""
    ours = from_stan(stub)
    at = batch_of(ours, 20)
    found = jax.jit(jax.vmap(jax.value_and_grad(ours.logdensity)))(at)
    expected = jax.vmap(jax.value_and_grad(by_hand))(at)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)


def test_planted_bug_sorted_names_are_found(stub, monkeypatch):
    ours = from_stan(stub)
    at = {k: v[0] for k, v in batch_of(ours, 1).items()}
    assert float(ours.logdensity(at)) == pytest.approx(float(by_hand(at)))
    names = ["a", "b.1", "b.2", "b.3", "z"]
    monkeypatch.setattr(BridgeStanStub, "param_unc_names", lambda self: names)
    wrong = from_stan(BridgeStanStub())
    assert float(wrong.logdensity(at)) != pytest.approx(float(by_hand(at)))


def test_all_chains_share_one_callback(stub, monkeypatch):
    ours = from_stan(stub)
    target, flat = as_logdensity(ours.logdensity, ours.init)
    calls = []
    callback = jax.pure_callback

    def counted(function, *arguments, **options):
        def run(*values):
            calls.append(np.shape(values[0]))
            return function(*values)

        return callback(run, *arguments, **options)

    monkeypatch.setattr(jax, "pure_callback", counted)
    x = flat[:, None] + jnp.zeros((5, 7))
    jax.block_until_ready(jax.jit(lambda x: value_and_grad(target, x))(x))
    assert [shape[:2] for shape in calls] == [(7, 5)]


def test_a_first_derivative_costs_no_product(stub):
    ours = from_stan(stub)
    target, flat = as_logdensity(ours.logdensity, ours.init)
    x = flat[:, None] + jnp.ones((5, 3))
    before = stub.calls
    jax.block_until_ready(jax.jit(lambda x: value_and_grad(target, x))(x))
    assert stub.products == 0
    assert stub.calls - before == 3


def second(logdensity, at):
    """Gradient of half the squared norm of the gradient: what training needs."""

    def norm(position):
        grads = jax.grad(logdensity)(position)
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)) / 2

    return jax.jit(jax.vmap(jax.grad(norm)))(at)


def test_curvature_comes_from_products(stub):
    ours = from_stan(stub)
    at = batch_of(ours, 4)
    found, expected = second(ours.logdensity, at), second(by_hand, at)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    assert stub.products == 4
    target, flat = as_logdensity(ours.logdensity, ours.init)
    assert has_second_derivative(target, flat)


def test_the_product_with_a_zero_vector_is_zero(stub):
    """Stan would divide by its length. A force that is stopped has such a vector."""
    ours = from_stan(stub)

    def zero(position):
        grads = jax.grad(ours.logdensity)(position)
        return sum(jnp.sum(0 * g) for g in jax.tree.leaves(grads))

    found = jax.grad(zero)({k: v[0] for k, v in batch_of(ours, 1).items()})
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(found))


def test_searches_leave_out_what_needs_a_forward_derivative(stub):
    """JAX has none of a custom VJP, so there are no marginals, and no error."""
    target, flat = as_logdensity(from_stan(stub).logdensity, from_stan(stub).init)
    assert has_second_derivative(target, flat)
    assert second_derivatives(target, flat) is not SecondDerivatives.FULL
    draws = np.random.default_rng(0).normal(size=(5, 100))
    assert bending(jax.random.key(0), target, draws) == ([], 0)
    assert profile(jax.random.key(0), target, draws, (0,)) == (None, 0)
    smooth, flat = as_logdensity(by_hand, {"z": 0.0, "a": 0.0, "b": np.zeros(3)})
    assert second_derivatives(smooth, flat) is SecondDerivatives.FULL


def test_without_curvature_the_force_is_stopped(stub):
    ours = from_stan(stub, curvature=False)
    target, flat = as_logdensity(ours.logdensity, ours.init)
    assert not has_second_derivative(target, flat)
    stopped = StoppedForce(target)
    np.testing.assert_array_equal(jax.grad(stopped)(flat), jax.grad(target)(flat))
    jax.block_until_ready(jax.grad(lambda x: jnp.sum(jax.grad(stopped)(x) ** 2))(flat))
    assert stub.products == 0


def test_products_are_not_asked_of_a_model_without(monkeypatch):
    monkeypatch.delattr(BridgeStanStub, "log_density_hessian_vector_product")
    ours = from_stan(BridgeStanStub())
    target, flat = as_logdensity(ours.logdensity, ours.init)
    assert not has_second_derivative(target, flat)
    with pytest.raises(ModelError, match="curvature=True, but the model has no"):
        from_stan(BridgeStanStub(), curvature=True)


def test_a_point_that_stan_rejects_is_outside():
    ours = from_stan(BridgeStanStub(limit=1.0))
    at = batch_of(ours, 3) | {"z": np.array([0.5, 1.5, 0.0])}
    values, grads = jax.vmap(jax.value_and_grad(ours.logdensity))(at)
    np.testing.assert_array_equal(np.isfinite(values), [True, False, True])
    assert values[1] == -np.inf
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    starts = ours.starts(jax.random.key(0), 200)
    assert starts["b"].shape == (200, 3)
    assert -2 < starts["z"].min() < starts["z"].max() <= 1.0
    same = ours.starts(jax.random.key(0), 200)
    np.testing.assert_array_equal(starts["z"], same["z"])
    assert (starts["z"] != ours.starts(jax.random.key(1), 200)["z"]).any()


def test_another_error_is_not_taken_for_a_rejection(monkeypatch):
    def broken(self, theta_unc):
        raise TypeError("wrong argument")

    monkeypatch.setattr(BridgeStanStub, "log_density_gradient", broken)
    with pytest.raises(TypeError, match="wrong argument"):
        from_stan(BridgeStanStub())


def test_variables_have_their_shapes_and_groups(stub):
    ours = from_stan(stub, dims={"theta": ["school"]}, coords={"school": list("uvw")})
    at = batch_of(ours, 2)
    every = jax.jit(jax.vmap(ours.constrain))(at)
    assert set(every) == {"z", "a", "b", "theta", "pair"}
    np.testing.assert_allclose(every["z"], np.exp(at["z"]))
    mean = 5 * at["a"] + np.exp(at["z"]) * at["b"].T
    np.testing.assert_allclose(every["theta"], mean.T)
    np.testing.assert_array_equal(every["pair"][0], [[11.0, 12.0], [21.0, 22.0]])
    found = jax.vmap(ours.log_likelihood)(at)["y"]
    expected = -(((ours.observed_data["y"] - mean.T) / ours.constant_data["sigma"]) ** 2) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert set(ours.constant_data) == {"J", "sigma"}
    assert ours.dims == {"theta": ["school"]}
    assert ours.labels == ("a", "b[0]", "b[1]", "b[2]", "z")
    assert ours.double


def test_replicated_data_are_drawn_with_the_key(stub):
    ours = from_stan(stub)
    num = 2000
    at = {k: np.broadcast_to(v, (num, *np.shape(v))) for k, v in ours.init.items()}
    keys = jax.random.split(jax.random.key(0), num)
    draw = jax.jit(jax.vmap(ours.posterior_predictive))
    y = np.asarray(draw(keys, at)["y"])
    np.testing.assert_array_equal(draw(keys, at)["y"], y)
    assert np.abs(np.mean(y, 0) * np.sqrt(num) / [15.0, 10.0, 16.0]).max() < 4.5
    np.testing.assert_allclose(y.std(0), [15.0, 10.0, 16.0], rtol=0.1)


def names(**lists):
    """A stub with other names."""

    class Other(BridgeStanStub):
        def param_names(self, *, include_tp=False, include_gq=False):
            return lists.get("every", ["z"])

        def param_unc_num(self):
            return lists.get("dim", 5)

    return Other()


@pytest.mark.parametrize("name", ["pair:1.1", "roots.1.real", "spectrum.imag"])
def test_tuples_and_complex_variables_are_refused(name):
    with pytest.raises(ModelError, match=rf"variable '{name[:4]}.* is a tuple or complex.*{name}"):
        from_stan(names(every=["z", name]))


def test_what_cannot_be_sampled_is_refused_in_words():
    with pytest.raises(ModelError, match="'schools_stub' has no parameters"):
        from_stan(names(dim=0))
    with pytest.raises(ModelError, match=r"100 points of U\(-2, 2\).*z is above the limit"):
        from_stan(BridgeStanStub(limit=-5.0))
    with pytest.raises(ModelError, match=r"methods of a bridgestan.StanModel, got 'm.stan'"):
        from_stan("m.stan")


@pytest.mark.slow
@with_stan
def test_stans_own_shapes_constraints_and_rejections():
    model = CompiledStan("shapes", {"limit": 1.5})
    ours = from_stan(model)
    shapes = {"a": (6,), "m": (6,), "w": (4,), "chol": (3,), "zeta": (), "alpha": ()}
    assert {k: np.shape(v) for k, v in ours.init.items()} == shapes
    at = batch_of(ours, 20) | {"alpha": np.linspace(-2, 2, 20)}
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(ours.logdensity)))(at)
    np.testing.assert_array_equal(np.isfinite(values), at["alpha"] <= 1.5)
    every = jax.jit(jax.vmap(ours.constrain))(at)
    # Stan reads arrays by rows and matrices by columns, and names both by columns.
    np.testing.assert_array_equal(every["a"], at["a"].reshape(-1, 2, 3))
    np.testing.assert_array_equal(every["m"], at["m"].reshape(-1, 3, 2).transpose(0, 2, 1))
    np.testing.assert_allclose(every["w"].sum(-1), 1)
    assert every["w"].shape == (20, 2, 3)
    np.testing.assert_allclose(jnp.sum(every["chol"] ** 2, -1), 1)
    np.testing.assert_array_equal(every["chol"][:, 0, 1:], 0)
    np.testing.assert_allclose(every["twice"], 2 * np.exp(at["zeta"]))
    kept = at["alpha"] <= 1.5
    np.testing.assert_allclose(grads["m"][kept], (1 - at["m"][kept]) / 4, rtol=1e-12)
    np.testing.assert_allclose(grads["a"][kept], -at["a"][kept], rtol=1e-12)


@pytest.mark.slow
@with_stan
def test_stans_curvature_and_groups():
    data = {"J": 3, "y": EFFECTS.tolist(), "sigma": ERRORS.tolist()}
    ours = from_stan(CompiledStan("eight_schools", data))

    def by_jax(p):
        return by_hand({"z": p["tau"], "a": p["mu"] / 5, "b": p["theta_raw"]})

    at = batch_of(ours, 5)
    values = jax.vmap(ours.logdensity)(at) - jax.vmap(by_jax)(at)
    assert np.ptp(values) < 1e-10
    found, expected = second(ours.logdensity, at), second(by_jax, at)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)
    np.testing.assert_array_equal(ours.observed_data["y"], EFFECTS)
    theta = jax.vmap(ours.constrain)(at)["theta"]
    lik = jax.vmap(ours.log_likelihood)(at)["y"]
    normal = -(((EFFECTS - theta) / ERRORS) ** 2) / 2 - np.log(ERRORS * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(lik, normal, rtol=1e-10)
    keys = jax.random.split(jax.random.key(0), 5)
    assert jax.vmap(ours.posterior_predictive)(keys, at)["y"].shape == (5, 3)


@pytest.mark.slow
@with_stan
def test_bad_data_are_named_by_stan():
    with pytest.raises(RuntimeError, match="sigma"):
        CompiledStan("eight_schools", {"J": 1, "y": [1.0], "sigma": [-1.0]})
