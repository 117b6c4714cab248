"""`capriole.sample`: draws as a labelled tree, seeds, starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import Transition
from capriole.models import as_logdensity, kernel_precision
from kernels import learned

pytestmark = pytest.mark.usefixtures("standard_promotion")
INIT = {"beta": jnp.zeros(2), "group": {"tau": jnp.asarray(0.0)}}

QUICK = {"num_leapfrogs": 2, "num_steps": 3, "num_chains": 16, "width": 8, "seed": 0}


def model(p):
    return -jnp.sum((p["beta"] - 1) ** 2) / 2 - (p["group"]["tau"] + 2) ** 2 / 8


@pytest.fixture(scope="module")
def kernel():
    """A kernel with random networks; it need not be trained for what is asked here."""
    density, _ = as_logdensity(model, INIT)
    return Transition(density, learned(2, 0.2)(3, jnp.dtype("float64")))


@pytest.fixture(scope="module")
def tree(kernel):
    with jax.numpy_dtype_promotion("standard"):
        return capriole.sample(
            kernel, INIT, seed=7, num_chains=3, num_draws=40, num_warmup=10, thin=2
        )


def test_draws_come_as_a_labelled_tree(tree, kernel):
    posterior, stats = tree["posterior"], tree["sample_stats"]
    assert set(posterior.data_vars) == {"beta", "group.tau"}
    assert posterior["beta"].dims[:2] == ("chain", "draw")
    assert posterior["beta"].shape == (3, 40, 2)
    assert posterior["group.tau"].shape == (3, 40)
    names = {
        "lp",
        "acceptance_rate",
        "diverging",
        "energy",
        "n_steps",
        "accepted",
        "direction",
        "log_det",
        "log_ratio",
    }
    assert names | {"nonfinite", "jump_sq"} == set(stats.data_vars)
    assert all(stats[name].shape == (3, 40) for name in stats.data_vars)
    assert stats["diverging"].dtype == bool
    assert int(stats["n_steps"].sum()) == posterior.attrs["num_gradients"] == 3 * 40 * 2 * 2
    beta, tau = posterior["beta"].values, posterior["group.tau"].values
    lp = -((beta - 1) ** 2).sum(axis=2) / 2 - (tau + 2) ** 2 / 8
    np.testing.assert_allclose(stats["lp"].values, lp, rtol=1e-10)
    for group in (posterior, stats):
        assert {
            "sampling_time",
            "compile_seconds",
            "capriole_version",
            "jax_version",
            "inference_library",
        } <= set(group.attrs)
        assert group.attrs["seed"] == "7"
        assert group.attrs["completed"] == 1


def test_seeds_decide_and_keys_are_seeds(tree, kernel):
    def again(seed):
        return capriole.sample(
            kernel, INIT, seed=seed, num_chains=3, num_draws=40, num_warmup=10, thin=2
        )

    expected = tree["posterior"]["beta"].values
    np.testing.assert_array_equal(again(7)["posterior"]["beta"].values, expected)
    np.testing.assert_array_equal(again(jax.random.key(7))["posterior"]["beta"].values, expected)
    assert np.abs(again(8)["posterior"]["beta"].values - expected).max() > 0.1


def test_explicit_starts_are_used(kernel):
    starts = {"beta": np.full((5, 2), 0.25), "group": {"tau": np.full(5, 0.25)}}
    kwargs = {"num_draws": 6, "num_warmup": 0, "num_chains": 99}
    tree = capriole.sample(kernel, starts=starts, **kwargs)
    moved = tree["sample_stats"]["accepted"].values[:, 0]
    beta = tree["posterior"]["beta"].values[:, 0]
    assert len(beta) == 5
    assert np.all(beta[~moved] == 0.25)
    starts["group"]["tau"][3] = np.inf
    with pytest.raises(ValueError, match="start outside the support, the first is chain 3"):
        capriole.sample(kernel, starts=starts, **kwargs)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_kernel_draws_in_its_own_precision_whatever_jax_is_set_to(precision, flag):
    options = QUICK | {"num_steps": 5, "precision": precision}
    with jax.enable_x64(flag), jax.numpy_dtype_promotion("standard"):
        found = capriole.train(model, INIT, **options)
    draw = {"num_chains": 2, "num_draws": 8, "num_warmup": 4, "seed": 1}
    trees = []
    for flag_then in (flag, not flag):  # the flag may change between training and drawing
        with jax.enable_x64(flag_then), jax.numpy_dtype_promotion("standard"):
            trees.append(capriole.sample(found.transition, INIT, **draw))
            starts = {"beta": np.zeros((2, 2)), "group": {"tau": np.zeros(2)}}
            capriole.sample(found.transition, starts=starts, **draw)
            assert jax.config.read("jax_enable_x64") is flag_then
    assert kernel_precision(found.transition) == precision
    for tree in trees:
        lp = tree["sample_stats"]["lp"].values
        np.testing.assert_array_equal(lp, lp.astype(precision))
    np.testing.assert_array_equal(*(tree["posterior"]["beta"] for tree in trees))


def test_data_and_init_in_float32_are_read_in_float64():
    """What `jnp.zeros(2)` and data are where JAX's setting is its default."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        init, data = jnp.zeros(2), jnp.arange(2.0)
        assert init.dtype == data.dtype == np.float32
        options = QUICK | {"num_steps": 5}
        found = capriole.train(lambda x: -jnp.sum((x - data) ** 2) / 2, init, **options)
        tree = capriole.sample(found.transition, init, num_chains=2, num_draws=8, num_warmup=4)
    assert tree["sample_stats"]["lp"].dtype == np.float64


def test_new_data_in_the_same_function_are_the_new_posterior():
    """JAX keeps programs by the function, with the data built in that it had at first."""
    data = {"mean": 0.0}

    def logdensity(x):
        return -jnp.sum((x - data["mean"]) ** 2) / 2

    means = []
    for mean in (0.0, 4.0):
        data["mean"] = mean
        found = capriole.train(logdensity, jnp.full(2, mean), **QUICK)
        tree = capriole.sample(
            found.transition, jnp.full(2, mean), num_chains=4, num_draws=100, num_warmup=50
        )
        means.append(float(tree["posterior"]["x"].mean()))
        assert tree["sample_stats"]["lp"].values.max() > -5
    assert means == pytest.approx([0.0, 4.0], abs=1)


def test_a_model_without_a_hash_is_a_log_density():
    @dataclasses.dataclass
    class Model:
        scale: np.ndarray

        def __call__(self, x):
            return -jnp.sum((x / self.scale) ** 2) / 2

    model = Model(np.array([1.0, 2.0]))
    with pytest.raises(TypeError):
        hash(model)
    found = capriole.train(model, jnp.zeros(2), **QUICK)
    tree = capriole.sample(found.transition, jnp.zeros(2), num_chains=4, num_draws=10)
    assert tree["posterior"]["x"].shape == (4, 10, 2)
