"""Stan programs of our own, compiled by Stan itself, are the laboratory's posteriors up to a
constant. Data are made, and stand in a toy checkout of posteriordb.
"""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.models import from_stan
from capriole_lab.targets import make_target
from stan_compiler import CompiledStan, can_compile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_compile(), reason="needs g++ and the httpstan wheel"),
]

RNG = np.random.default_rng(0)
EFFECTS = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
ERRORS = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
SCHOOLS = {"J": 8, "y": EFFECTS, "sigma": ERRORS}
FEATURES = RNG.normal(size=(30, 5))
BLR = {"N": 30, "D": 5, "X": FEATURES.tolist()}
BLR["y"] = (FEATURES @ [1.0, -2.0, 0.5, 0.0, 3.0] + RNG.normal(size=30)).tolist()
GARCH = {"T": 40, "y": (5 + 2 * RNG.normal(size=40)).tolist(), "sigma1": 1.5}
HMM = {"N": 40, "y": (np.where(RNG.random(40) < 0.5, 3, 10) + RNG.normal(size=40)).tolist()}
GP = {"N": 11, "x": np.linspace(-5, 5, 11).tolist(), "k": RNG.poisson(10.0, size=11).tolist()}
# Stan's simplex of two is an isometric log ratio, and ours the log odds: sqrt 2 times as much.
ROOT = np.sqrt(2)

# Program: data, posterior, and the program's unconstrained variables in the posterior's order.
CASES = {
    "eight_schools": (
        SCHOOLS,
        "eight_schools-eight_schools_noncentered",
        lambda p: [p["theta_raw"], p["mu"], p["tau"]],
    ),
    "eight_schools_centred": (
        SCHOOLS,
        "eight_schools-eight_schools_centered",
        lambda p: [p["theta"], p["mu"], p["tau"]],
    ),
    "regression": (BLR, "sblrc-blr", lambda p: [p["beta"], p["sigma"]]),
    "garch11": (
        GARCH,
        "garch-garch11",
        lambda p: [p[name] for name in ("mu", "alpha0", "alpha1", "beta1")],
    ),
    "hmm_example": (
        HMM,
        "hmm_example-hmm_example",
        lambda p: [ROOT * p["theta1"], ROOT * p["theta2"], p["mu"]],
    ),
    "gp_pois_regr": (
        GP,
        "gp_pois_regr-gp_pois_regr",
        lambda p: [p["rho"], p["alpha"], p["noise"]],
    ),
}
# The covariance of the process has a condition number near 1e10.
ROUNDING = {"gp_pois_regr": 1e-6}


def posterior(name, data, folder):
    """The laboratory's posterior of these data."""
    (folder / "posteriors").mkdir()
    entry = {"data_name": "made", "reference_posterior_name": None}
    (folder / "posteriors" / f"{name}.json").write_text(json.dumps(entry))
    (folder / "data" / "data").mkdir(parents=True)
    with zipfile.ZipFile(folder / "data" / "data" / "made.json.zip", "w") as archive:
        archive.writestr("made.json", json.dumps(data))
    return make_target(f"posteriordb/{name}", path=folder)


@pytest.mark.parametrize("program", CASES)
def test_stan_and_the_laboratory_agree_up_to_a_constant(program, tmp_path):
    data, name, order = CASES[program]
    folder = tmp_path / "posterior_database"
    folder.mkdir()
    ours = posterior(name, data, folder)
    stan = from_stan(CompiledStan(program, data))
    rng, rounding = np.random.default_rng(1), ROUNDING.get(program, 1e-10)
    at = {k: rng.uniform(-1.5, 1.5, size=(20, *np.shape(v))) for k, v in stan.init.items()}

    def flat(position):
        return jnp.concatenate([jnp.ravel(part) for part in order(position)])

    found = jax.vmap(jax.value_and_grad(stan.logdensity))(at)
    expected = jax.vmap(jax.value_and_grad(lambda p: ours(flat(p))))(at)
    difference = np.asarray(found[0] - expected[0])
    assert np.ptp(difference) <= rounding * np.abs(expected[0]).max()
    largest = max(np.abs(g).max() for g in jax.tree.leaves(expected[1]))
    for one, other in zip(*map(jax.tree.leaves, (found[1], expected[1])), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=100 * rounding * largest)
    values = jax.vmap(stan.constrain)(at)
    names = ours.constrain(jax.vmap(flat)(at).T)
    shared = [full for full in names if full.partition("[")[0] in values]
    assert shared
    for full in shared:
        base, _, index = full.partition("[")
        value = values[base][:, int(index[:-1]) - 1] if index else values[base]
        np.testing.assert_allclose(value, names[full], rtol=1e-6, atol=1e-8)
