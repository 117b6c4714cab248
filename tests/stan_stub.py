"""`BridgeStanStub` is no Stan: it has the documented methods of ``bridgestan.StanModel`` around a
density in NumPy, for fast tests of `from_stan`.
"""

import json

import numpy as np

EFFECTS = np.array([28.0, 8.0, -3.0])
ERRORS = np.array([15.0, 10.0, 16.0])


class BridgeStanStub:
    """Eight schools, three of them, non-centred; Stan's order of declaration is z, a, b.

    ``z`` is log tau, ``a`` the mean over 5, and ``b`` the effects, so that sorted names would be
    another order. It refuses points with ``z > limit`` as ``reject()`` does.
    """

    def __init__(self, limit=np.inf):
        self.limit, self.calls, self.products = limit, 0, 0
        self.data = json.dumps({"J": 3, "y": EFFECTS.tolist(), "sigma": ERRORS.tolist()})

    def name(self):
        return "schools_stub"

    def param_unc_num(self):
        return 5

    def param_unc_names(self):
        return ["z", "a", "b.1", "b.2", "b.3"]

    def param_names(self, *, include_tp=False, include_gq=False):
        names = ["z", "a", "b.1", "b.2", "b.3"]
        if include_tp:
            names += ["theta.1", "theta.2", "theta.3", "pair.1.1", "pair.2.1", "pair.1.2"]
            names += ["pair.2.2"]
        if include_gq:
            names += [f"{name}.{i}" for name in ("log_lik", "y_rep") for i in (1, 2, 3)]
        return names

    def new_rng(self, seed):
        return np.random.default_rng(seed)

    def param_constrain(self, theta_unc, *, include_tp=False, include_gq=False, rng=None):
        z, a, *b = theta_unc
        tau, theta = np.exp(z), 5 * a + np.exp(z) * np.asarray(b)
        out = [tau, 5 * a, *b]
        if include_tp:
            out += [*theta, *(10.0 * i + j for j in (1, 2) for i in (1, 2))]
        if include_gq:
            out += [*(-(((EFFECTS - theta) / ERRORS) ** 2) / 2), *rng.normal(theta, ERRORS)]
        return np.array(out)

    def log_density_gradient(self, theta_unc, *, propto=True, jacobian=True):
        self.calls += 1
        assert propto
        assert jacobian
        assert theta_unc.dtype == np.float64
        assert theta_unc.flags.c_contiguous
        z, a, b = theta_unc[0], theta_unc[1], theta_unc[2:]
        if z > self.limit:
            raise RuntimeError("Exception: z is above the limit")
        tau, theta = np.exp(z), 5 * a + np.exp(z) * b
        away = (EFFECTS - theta) / ERRORS**2
        value = -np.sum((EFFECTS - theta) * away) / 2 - np.sum(b**2) / 2 - a**2 / 2
        value += z - np.log1p((tau / 5) ** 2)
        of_z = tau * np.sum(b * away) + 1 - 2 * tau**2 / (25 + tau**2)
        return value, np.array([of_z, 5 * away.sum() - a, *(tau * away - b)])

    def log_density_hessian_vector_product(self, theta_unc, v, *, propto=True, jacobian=True):
        self.products += 1
        length = np.linalg.norm(v)
        if length == 0:
            raise RuntimeError("division by zero")
        step = 1e-5 / length
        up, down = (self.log_density_gradient(theta_unc + s * step * v)[1] for s in (1, -1))
        return self.log_density_gradient(theta_unc)[0], (up - down) / (2 * step)


def by_hand(position):
    """The stub's log density in JAX, of the same dict of variables."""
    import jax.numpy as jnp

    z, a, b = position["z"], position["a"], position["b"]
    tau, theta = jnp.exp(z), 5 * a + jnp.exp(z) * b
    fit = -jnp.sum(((EFFECTS - theta) / ERRORS) ** 2) / 2
    return fit - jnp.sum(b**2) / 2 - a**2 / 2 + z - jnp.log1p((tau / 5) ** 2)
