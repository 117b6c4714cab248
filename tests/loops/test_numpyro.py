"""Kernels in NumPyro's MCMC: exact, in the model's own space, and never for other data."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from capriole import numpyro_kernel
from capriole.coordinates import Whitened, estimate_whitening
from capriole.kernels import Rotation, Transition
from capriole.loops import _blackjax
from capriole.models import as_logdensity, from_numpyro
from invariance import ALPHA, one_sample_p

numpyro = pytest.importorskip("numpyro")
dist = pytest.importorskip("numpyro.distributions")
MCMC = pytest.importorskip("numpyro.infer").MCMC

NUM, STEPS = 4000, 3
pytestmark = pytest.mark.usefixtures("standard_promotion")


def dynamic(scale=1.0):
    """Declared in another order than names sort; the support of one site depends on the other."""
    top = numpyro.sample("top", dist.HalfNormal(scale))
    numpyro.sample("low", dist.Uniform(0, top).expand([2]).to_event(1))
    numpyro.deterministic("twice", 2 * top)


def draw(rng, num=NUM, scale=1.0):
    """Exact unconstrained draws."""
    top = scale * np.abs(rng.normal(size=num))
    share = rng.random(size=(num, 2))
    return {"top": np.log(top), "low": special.logit(share)}


@pytest.fixture(scope="module")
def kernel():
    with jax.numpy_dtype_promotion("standard"):
        target, _ = as_logdensity(from_numpyro(dynamic))
    exact = draw(np.random.default_rng(5))
    flat = np.concatenate([exact["low"].T, exact["top"][None]])
    white = Whitened(target, estimate_whitening(flat))
    return Transition(white, Rotation(jnp.asarray(1.0), 2))


def run(kernel, *, chains=NUM, samples=STEPS, start=None, **options):
    mcmc = MCMC(
        numpyro_kernel(dynamic, kernel),
        num_warmup=0,
        num_samples=samples,
        num_chains=chains,
        chain_method=options.pop("chain_method", "vectorized"),
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), init_params=start, **options)
    return mcmc


def p_values(samples):
    top, low = np.asarray(samples["top"][:, -1]), np.asarray(samples["low"][:, -1])
    shares = {f"low[{i}]": low[:, i] / top for i in range(2)}
    found = {
        name: one_sample_p(share, lambda u: np.clip(u, 0, 1)) for name, share in shares.items()
    }
    return found | {"top": one_sample_p(top, lambda x: 2 * special.ndtr(x) - 1)}


def test_exact_draws_stay_exact_draws(kernel):
    start = draw(np.random.default_rng(0))
    fields = ("accept_prob", "potential_energy", "energy", "num_steps", "z.top")
    mcmc = run(kernel, start=start, extra_fields=fields)
    samples = mcmc.get_samples(group_by_chain=True)
    assert {k: v.shape for k, v in samples.items()} == {
        "top": (NUM, STEPS),
        "low": (NUM, STEPS, 2),
        "twice": (NUM, STEPS),
    }
    values = p_values(samples)
    assert min(values.values()) > ALPHA, values
    assert np.mean(samples["top"][:, -1] != np.exp(start["top"])) > 0.8
    np.testing.assert_allclose(samples["twice"], 2 * samples["top"])
    extra = mcmc.get_extra_fields(group_by_chain=True)
    np.testing.assert_allclose(np.exp(extra["z.top"]), samples["top"])
    model = from_numpyro(dynamic)
    share = samples["low"][:5, -1] / samples["top"][:5, -1, None]
    at = {"top": extra["z.top"][:5, -1], "low": jnp.asarray(special.logit(share))}
    np.testing.assert_allclose(
        -extra["potential_energy"][:5, -1], jax.vmap(model.logdensity)(at), rtol=1e-6
    )
    assert (extra["num_steps"] >= 2).all()
    assert 0.1 < float(extra["accept_prob"].mean()) <= 1
    assert not extra["diverging"].any()


def declared(transition, init, dtype):
    """Numbers handed to names in the order of declaration."""
    flat, _ = _checked(transition, init, dtype)
    return flat, lambda x: {"top": x[0], "low": x[1:]}


_checked = _blackjax._checked
BUGS = {
    "white coordinates": ("state_to_user", lambda target, position, lp: (position, lp)),
    "order of names": ("_checked", declared),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(kernel, monkeypatch, bug):
    monkeypatch.setattr(_blackjax, *BUGS[bug])
    mcmc = run(kernel, start=draw(np.random.default_rng(0)))
    assert min(p_values(mcmc.get_samples(group_by_chain=True)).values()) < ALPHA


def test_one_chain_and_chains_one_after_another(kernel):
    one = run(kernel, chains=1, samples=20)
    assert one.get_samples()["low"].shape == (20, 2)
    several = run(kernel, chains=2, samples=20, chain_method="sequential")
    samples = several.get_samples(group_by_chain=True)
    assert samples["low"].shape == (2, 20, 2)
    assert (samples["top"][0] != samples["top"][1]).any()
    several.post_warmup_state = several.last_state
    several.run(jax.random.key(1))
    again = several.get_samples(group_by_chain=True)
    assert (again["top"] != samples["top"]).any()


def test_a_kernel_of_other_data_is_refused(kernel):
    mcmc = MCMC(numpyro_kernel(dynamic, kernel), num_warmup=0, num_samples=2, progress_bar=False)
    with pytest.raises(ValueError, match="not for this model and these data"):
        mcmc.run(jax.random.key(0), 2.0)

    def more():
        dynamic()
        numpyro.sample("extra", dist.Normal())

    mcmc = MCMC(numpyro_kernel(more, kernel), num_warmup=0, num_samples=2, progress_bar=False)
    with pytest.raises(ValueError, match="not for this model and these data"):
        mcmc.run(jax.random.key(0))


def test_traced_data_are_refused(kernel):
    """The compiled program would go on with the first data."""
    mcmc = MCMC(
        numpyro_kernel(dynamic, kernel),
        num_warmup=0,
        num_samples=2,
        progress_bar=False,
        jit_model_args=True,
    )
    with pytest.raises(ValueError, match="leave out jit_model_args=True"):
        mcmc.run(jax.random.key(0), jnp.asarray(1.0))


def test_a_kernel_is_fitted_once_for_the_same_data(kernel, monkeypatch):
    """What `fit` would find is stored, so that no search runs."""
    from capriole.loops import _numpyro_kernel

    fits = []
    tops = draw(np.random.default_rng(1), 8)
    ends = {"low": tops["low"][:, None], "top": tops["top"][:, None]}

    def stored(model, **options):
        fits.append(options)
        return Stored(kernel, ends)

    monkeypatch.setattr(_numpyro_kernel, "fit", stored)
    ours = numpyro_kernel(dynamic, num_draws=50)
    mcmc = MCMC(
        ours,
        num_warmup=0,
        num_samples=5,
        num_chains=3,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0))
    mcmc.run(jax.random.key(1))
    assert fits == [{"num_draws": 50}]
    assert ours.transition is kernel
    mcmc.run(jax.random.key(1), 1.5)
    assert len(fits) == 2
    none = numpyro_kernel(dynamic)
    monkeypatch.setattr(_numpyro_kernel, "fit", lambda model: Stored(None, ends))
    with pytest.raises(RuntimeError, match=r"numpyro\.infer\.NUTS: stay with NUTS"):
        MCMC(none, num_warmup=0, num_samples=5, progress_bar=False).run(jax.random.key(0))


class Stored:
    """A fit as far as the kernel reads it."""

    def __init__(self, transition, ends):
        import xarray

        self.transition = transition
        variables = {
            name: (["chain", "draw", *[f"{name}_dim"] * (values.ndim - 2)], values)
            for name, values in ends.items()
        }
        tree = {"unconstrained_posterior": xarray.Dataset(variables)}
        self.tree = xarray.DataTree.from_dict(tree)
        self.verdict = self

    chosen = "rotation"

    @property
    def recommendation(self):
        return "stay with NUTS"


def test_arviz_and_predictive_read_the_run(kernel):
    from arviz_base import from_numpyro as tree_of

    mcmc = run(kernel, chains=4, samples=10, extra_fields=("accept_prob", "energy"))
    tree = tree_of(mcmc)
    assert tree.posterior["low"].shape == (4, 10, 2)
    assert "acceptance_rate" in tree.sample_stats
    predictive = numpyro.infer.Predictive(dynamic, mcmc.get_samples())(jax.random.key(0))
    np.testing.assert_allclose(predictive["twice"], mcmc.get_samples()["twice"])


def test_the_class_can_be_pickled_without_a_kernel():
    again = pickle.loads(pickle.dumps(numpyro_kernel(dynamic, num_draws=50)))
    assert again.options == {"num_draws": 50}
    assert isinstance(again, numpyro.infer.mcmc.MCMCKernel)


@pytest.mark.slow
def test_a_whole_run_fits_inside_init():
    def normal(y=None):
        scale = numpyro.sample("scale", dist.HalfNormal(2.0))
        mean = numpyro.sample("mean", dist.Normal(0, 3))
        with numpyro.plate("i", 5):
            numpyro.sample("y", dist.Normal(mean, scale), obs=y)

    y = jnp.asarray([1.0, 2.0, 0.5, 1.5, 1.2])
    ours = numpyro_kernel(normal, num_draws=200, train_steps=0, compare=False)
    mcmc = MCMC(
        ours,
        num_warmup=20,
        num_samples=500,
        num_chains=8,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), y=y)
    nuts = MCMC(
        numpyro.infer.NUTS(normal),
        num_warmup=500,
        num_samples=2000,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    nuts.run(jax.random.key(1), y=y)
    for name in ("scale", "mean"):
        one, other = mcmc.get_samples()[name], nuts.get_samples()[name]
        assert abs(one.mean() - other.mean()) < 5 * other.std() / np.sqrt(1000)
        assert stats.ks_2samp(one[::8], other[::8]).pvalue > 1e-4
