"""Whether draws are right: moments, tails and shares of modes against exact draws."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from capriole import diagnostics
from capriole.kernels import Key

from ._base import AbstractUnseen, AbstractUnseenModes

NUM_EXACT = 200_000
"""Exact draws that tails and shares of modes are compared with."""

FALSE_ALARM = 1e-3
"""Probability that right draws are called wrong, over all tests of a cell."""

TAILS = (0.01, 0.99)
"""Exact quantiles below which the share of draws is tested."""


class Tested(NamedTuple):
    """The worst of one group of tests.

    ``z`` is the p-value as a deviation of a standard normal; ``where`` is the dimension or mode.
    """

    name: str
    z: float
    where: int
    found: float
    exact: float


class Truth(NamedTuple):
    """What the tests of a cell say together: right if every |z| is at most ``limit``."""

    right: bool
    limit: float
    num_tests: int
    groups: tuple[Tested, ...]

    @property
    def failures(self) -> list[str]:
        """The groups of tests that say wrong, in words."""
        return [
            f"{test.name} {test.where}: {test.found:.3g} instead of {test.exact:.3g} "
            f"(|z| {test.z:.3g})"
            for test in self.groups
            if not test.z <= self.limit
        ]


def judge_draws(target: AbstractUnseen, position: np.ndarray, key: Key) -> Truth:
    """Tests draws of a target against what is exact.

    Means and variances are tested by their standard errors, tails and shares of modes by binomial
    errors with the effective sample size of the indicator. The limit is Bonferroni's.

    Args:
        target: The target.
        position: Draws, of shape (chains, draws, dim).
        key: Key of the exact draws.

    Returns:
        The verdict of all tests.
    """
    position = np.asarray(position, np.float64)
    exact = np.asarray(eqx.filter_jit(target.sample)(key, NUM_EXACT))
    groups = [*_moments(target, position), *_tails(position, exact)]
    if isinstance(target, AbstractUnseenModes):
        groups.append(_shares(target, position, exact))
    num_tests = sum(len(z) for _, z, _, _ in groups)
    limit = float(stats.norm.isf(FALSE_ALARM / num_tests / 2))
    worst = tuple(_worst(*group) for group in groups if len(group[1]))
    return Truth(all(test.z <= limit for test in worst), limit, num_tests, worst)


type _Group = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""A name; and for each dimension or mode |z|, what was found, and the exact value; NaN: no test."""


def _worst(name: str, z: np.ndarray, found: np.ndarray, exact: np.ndarray) -> Tested:
    index = int(np.argmax(z))
    known = _indices_of(exact)
    return Tested(name, float(z[index]), int(known[index]), *_pair(found, exact, known[index]))


def _indices_of(exact: np.ndarray) -> np.ndarray:
    """The dimensions whose exact value is known."""
    return np.flatnonzero(np.isfinite(exact))


def _pair(found: np.ndarray, exact: np.ndarray, index: int) -> tuple[float, float]:
    return float(found[index]), float(exact[index])


def _moments(target: AbstractUnseen, position: np.ndarray) -> list[_Group]:
    """Means and variances where they are known."""
    mean, variance = np.asarray(target.mean), np.asarray(target.variance)
    squares = (position - mean) ** 2
    return [_group("mean", position, mean), _group("variance", squares, variance)]


def _group(name: str, values: np.ndarray, exact: np.ndarray) -> _Group:
    """Averages in standard errors; Student's t with the ESS as degrees of freedom."""
    known = _indices_of(exact)
    found = values.mean(axis=(0, 1))
    if not len(known):
        return name, np.zeros(0), found, exact
    error = diagnostics.mean_error(values[..., known])
    with np.errstate(divide="ignore", invalid="ignore"):
        ess = values[..., known].var(axis=(0, 1)) / error**2
        t = np.abs(found[known] - exact[known]) / error
        p = 2 * stats.t.sf(t, np.maximum(ess - 1, 1))
    return name, _as_z(p), found, exact


def _tails(position: np.ndarray, exact: np.ndarray) -> list[_Group]:
    """Shares of draws below the exact quantiles."""
    plain = diagnostics.bulk_ess(position)
    groups = []
    for level in TAILS:
        below = position <= np.quantile(exact, level, axis=1)
        expected = np.full(position.shape[-1], level)
        groups.append(_binomial(f"share below the {level:.0%} quantile of", below, expected, plain))
    return groups


def _shares(target: AbstractUnseenModes, position: np.ndarray, exact: np.ndarray) -> _Group:
    """Shares of the modes."""
    modes = np.arange(target.num_modes)
    mode = eqx.filter_jit(target.mode)
    expected = (np.asarray(mode(jnp.asarray(exact)))[:, None] == modes).mean(axis=0)
    flat = position.reshape(-1, position.shape[-1]).T
    labels = np.asarray(mode(jnp.asarray(flat))).reshape(position.shape[:2])
    plain = np.full(len(modes), np.min(diagnostics.bulk_ess(position)))
    return _binomial("share of mode", labels[..., None] == modes, expected, plain)


def _binomial(name: str, hits: np.ndarray, exact: np.ndarray, plain: np.ndarray) -> _Group:
    """Shares of hits with binomial errors.

    The number of trials is the ESS of the indicator, that of the dimension (``plain``) where the
    indicator never changes. The error of the exact draws is in it.
    """
    hits = np.asarray(hits, np.float64)
    found = hits.mean(axis=(0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ess = found * (1 - found) / diagnostics.mean_error(hits) ** 2
    ess = np.where(np.isfinite(ess), ess, plain)
    trials = 1 / (1 / np.maximum(ess, 1.0) + 1 / NUM_EXACT)
    count = found * trials
    at_most = special.betainc(np.maximum(trials - count, 1e-9), count + 1, 1 - exact)
    at_least = special.betainc(np.maximum(count, 1e-9), trials - count + 1, exact)
    return name, _as_z(np.minimum(1.0, 2 * np.minimum(at_most, at_least))), found, exact


def _as_z(p: np.ndarray) -> np.ndarray:
    """p-values as |z|; infinite where a p-value is none, as for chains that stand still."""
    return np.where(np.isfinite(p), stats.norm.isf(np.maximum(p, 1e-300) / 2), np.inf)
