"""Kernels in BlackJAX's loops: exact, in the user's coordinates, and never in others unseen."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.util import run_inference_algorithm
from scipy import special

from capriole import as_blackjax, loops
from capriole.coordinates import Transported, Whitened, estimate_whitening, from_user
from capriole.kernels import Rotation, Transition, hmc
from capriole.loops import _blackjax
from capriole.models import as_logdensity
from invariance import ALPHA, one_sample_p
from kernels import transport_map

INIT = {"neck": jnp.zeros(()), "bent": jnp.zeros(())}
"""Declared in another order than JAX sorts the names, and of one shape."""
NUM, STEPS = 20_000, 3


def funnel(position):
    """neck ~ N(0, 1), bent | neck ~ N(neck^2 + 3, exp(neck)^2)."""
    z = (position["bent"] - position["neck"] ** 2 - 3) * jnp.exp(-position["neck"])
    return -(position["neck"] ** 2) / 2 - z**2 / 2 - position["neck"]


def draw(rng, num):
    neck = rng.normal(size=num)
    return {"neck": neck, "bent": neck**2 + 3 + np.exp(neck) * rng.normal(size=num)}


def standardised(x):
    x = {name: np.asarray(values) for name, values in x.items()}
    return {
        "neck": x["neck"],
        "bent": (x["bent"] - x["neck"] ** 2 - 3) * np.exp(-x["neck"]),
    }


def white_kernel():
    """White coordinates of the exact draws, and a map on top whose log determinant moves."""
    target, _ = as_logdensity(funnel, INIT)
    exact = draw(np.random.default_rng(7), 4000)
    whitening = estimate_whitening(np.stack([exact["bent"], exact["neck"]]))
    white = Whitened(target, whitening)
    bent = Transported(white, transport_map(2, [1]))
    return Transition(bent, Rotation(jnp.asarray(1.0), 2))


@pytest.fixture(scope="module")
def kernel():
    return white_kernel()


def walked(algorithm, seed=0):
    """Where exact draws are after a few steps of BlackJAX's loop, and what the loop kept."""
    start = draw(np.random.default_rng(seed), NUM)

    def chain(key, position):
        return run_inference_algorithm(key, algorithm, STEPS, initial_position=position)

    keys = jax.random.split(jax.random.key(seed), NUM)
    return start, *jax.jit(jax.vmap(chain))(keys, start)


def p_values(position):
    return {n: one_sample_p(v, special.ndtr) for n, v in standardised(position).items()}


def test_exact_draws_stay_exact_draws(kernel):
    start, last, (states, infos) = walked(as_blackjax(kernel, INIT))
    values = p_values(last.position)
    assert min(values.values()) > ALPHA, values
    moved = np.mean((np.asarray(last.position["neck"]) - start["neck"]) ** 2)
    assert moved > 0.1
    assert float(infos.acceptance_rate.mean()) > 0.1
    at = {name: v[:50, -1] for name, v in states.position.items()}
    np.testing.assert_allclose(states.logdensity[:50, -1], jax.vmap(funnel)(at), rtol=1e-9)
    assert set(infos._fields) >= {"is_accepted", "is_divergent", "energy"}
    assert int(infos.num_integration_steps.max()) >= 2


def leaked(*_):
    """White coordinates let out."""
    return lambda target, position, lp: (position, lp)


def declared(transition, init, dtype):
    """Numbers handed to names in the order of declaration."""
    flat, _ = _blackjax_checked(transition, init, dtype)
    return flat, lambda x: dict(zip(init, x, strict=True))


_blackjax_checked = _blackjax._checked
BUGS = {"white coordinates": ("state_to_user", leaked()), "order of names": ("_checked", declared)}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(kernel, monkeypatch, bug):
    monkeypatch.setattr(_blackjax, *BUGS[bug])
    _, last, _ = walked(as_blackjax(kernel, INIT))
    assert min(p_values(last.position).values()) < ALPHA


@pytest.mark.parametrize("start", ["position", "state"])
def test_a_bare_kernel_does_not_run_in_a_loop_of_blackjax(kernel, start):
    """It would return white coordinates without a word."""
    flat = jnp.zeros(2)
    options = {"initial_position": flat} if start == "position" else {}
    if start == "state":
        options = {"initial_state": kernel.init(flat)}
    with pytest.raises(TypeError, match=r"own coordinates.*capriole\.as_blackjax"):
        run_inference_algorithm(jax.random.key(0), kernel, 5, **options)
    with pytest.raises(TypeError, match=r"own coordinates.*capriole\.as_blackjax"):
        kernel.step(jax.random.key(0), kernel.init(flat))


def test_a_kernel_in_the_users_own_coordinates_needs_no_map():
    target, flat = as_logdensity(funnel, INIT)
    algorithm = as_blackjax(hmc(target, step_size=0.1, num_leapfrogs=2), INIT)
    state = algorithm.init({"neck": 0.5, "bent": 1})
    assert isinstance(algorithm, blackjax.base.SamplingAlgorithm)
    assert isinstance(state, loops.LoopState)
    np.testing.assert_allclose(state.position["neck"], 0.5)
    np.testing.assert_array_equal(from_user(target, flat), flat)
    state, info = jax.jit(algorithm.step)(jax.random.key(0), state)
    assert isinstance(info, loops.LoopInfo)
    assert state.logdensity == pytest.approx(float(funnel(state.position)))


@pytest.mark.parametrize(
    ("init", "match"),
    [
        ({"neck": 0.0}, "no position of the kernel's log density"),
        ({"neck": 0.0, "bend": 0.0}, r"variables of the kernel's log density.*'bent'.*got.*'bend'"),
        ({"neck": np.zeros(2), "bent": np.zeros(0)}, r"variables of the kernel's log density"),
        (np.zeros(2), r"variables of the kernel's log density"),
        ({"neck": np.nan, "bent": 0.0}, "not finite"),
    ],
    ids=["fewer", "another name", "other shapes", "flat", "nan"],
)
def test_an_init_of_another_log_density_is_refused(kernel, init, match):
    with pytest.raises(ValueError, match=match):
        as_blackjax(kernel, init)


def test_a_position_unlike_init_is_refused(kernel):
    algorithm = as_blackjax(kernel, INIT)
    for position in (jnp.zeros(2), {"neck": jnp.zeros(2), "bent": 0.0}, {"neck": 0.0}):
        with pytest.raises(ValueError, match=r"must have the variables of init.*'bent'.*got"):
            algorithm.init(position)


def test_double_precision_must_be_on_for_a_kernel_in_it(kernel):
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64.*enable_x64\(True\)"):
        as_blackjax(kernel, INIT)
