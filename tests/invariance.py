"""The statistical checks of a kernel, from exact draws: each raises AssertionError on a kernel that is not exact.

Bands are Dvoretzky-Kiefer-Wolfowitz-Massart's at a false alarm of 1e-6 each (TESTING 2.5); seeds are fixed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from capriole import draw_chains

ALPHA = 1e-6


class Walk(NamedTuple):
    """Exact draws, where a few transitions took them, and fresh exact draws, each (dim, n); the acceptance rate."""

    start: np.ndarray
    end: np.ndarray
    fresh: np.ndarray
    acceptance: float


def walk(transition, target, *, n=40_000, steps=4, seed=0):
    """``steps`` transitions from ``n`` exact draws of ``target``, through the library's own sampling loop."""
    rng = np.random.default_rng(seed)
    start, fresh = target.draw(rng, n), target.draw(rng, n)
    state = transition.init(jnp.asarray(start), jax.random.key(seed + 1))
    draws = draw_chains(jax.random.key(seed), transition, state, num_draws=1, thin=steps, chunk_size=1)
    return Walk(start, np.asarray(draws.state.position), fresh, float(draws.record.acceptance_rate.mean()))


def one_sample(values, cdf):
    """Kolmogorov-Smirnov distance to an exact distribution, over its critical value."""
    u = np.sort(cdf(values))
    n = len(u)
    distance = max(np.max(np.arange(1, n + 1) / n - u), np.max(u - np.arange(n) / n))
    return distance / np.sqrt(np.log(2 / ALPHA) / (2 * n))


def two_sample(first, second):
    """Two-sample Kolmogorov-Smirnov distance over its critical value."""
    critical = np.sqrt(np.log(2 / ALPHA) / 2 * (1 / len(first) + 1 / len(second)))
    return stats.ks_2samp(first, second, method="asymp").statistic / critical


def scores(target, found: Walk):
    """Distance over critical value for every projection: coordinates, directions, radius, energy, mode."""
    out = {
        f"x{i} against fresh draws": two_sample(a, b)
        for i, (a, b) in enumerate(zip(found.end, found.fresh, strict=True))
    }
    energies = [np.asarray(target(jnp.asarray(x))) for x in (found.end, found.fresh)]
    out["energy against fresh draws"] = two_sample(*energies)
    if hasattr(target, "standardise"):
        z = target.standardise(found.end)
        directions = np.random.default_rng(9).normal(size=(4, len(z)))
        directions = np.concatenate([np.eye(len(z)), directions / np.linalg.norm(directions, axis=1, keepdims=True)])
        out |= {f"direction {i}": one_sample(d @ z, special.ndtr) for i, d in enumerate(directions)}
        out["radius"] = one_sample(np.sum(z**2, axis=0), lambda r: special.chdtr(len(z), r))
    if hasattr(target, "cdfs"):
        out |= {f"x{i}": one_sample(x, cdf) for i, (x, cdf) in enumerate(zip(found.end, target.cdfs(), strict=True))}
        p = float(target.cdfs()[0](target.centre / 2))
        n = found.end.shape[1]
        share = np.mean(found.end[0] < target.centre / 2)
        out["mode"] = abs(share - p) / np.sqrt(p * (1 - p) / n) / special.ndtri(1 - ALPHA / 2)
    return out


def check_invariance(transition, target, **options):
    """Exact draws stay exact draws, they do move, and the test has the power to tell (a band below 0.02)."""
    found = walk(transition, target, **options)
    assert np.sqrt(np.log(2 / ALPHA) / (2 * found.end.shape[1])) < 0.02
    scale = found.start.std(axis=1, keepdims=True)
    moved = np.mean(((found.end - found.start) / scale) ** 2)
    assert moved > 0.1, f"chains hardly move: mean squared jump {moved:.3g}"
    assert found.acceptance > 0.1, f"acceptance {found.acceptance:.3g}"
    bad = {name: round(float(score), 2) for name, score in scores(target, found).items() if not score < 1}
    assert not bad, f"not invariant: distance over critical value {bad}"


def check_symmetry(transition, target, *, bins=8, **options):
    """The flow between cells of the plane is symmetric (Bowker 1948, TESTING 2.7)."""
    found = walk(transition, target, steps=1, **options)
    check_flow(*(x - np.median(found.start, axis=1, keepdims=True) for x in (found.start, found.end)), bins=bins)


def check_flow(start, end, *, bins=8):
    """Bowker's test on the flow between ``bins`` sectors of the plane, from (2, n) to (2, n) points."""

    def sector(x):
        return np.floor((np.arctan2(x[1], x[0]) / (2 * np.pi) + 0.5) * bins).astype(int) % bins

    table = np.zeros((bins, bins))
    np.add.at(table, (sector(start), sector(end)), 1)
    upper = np.triu_indices(bins, 1)
    total, difference = (table + table.T)[upper], (table - table.T)[upper]
    used = total > 10
    assert table.sum() - np.trace(table) > 0.1 * table.sum(), "hardly any chain changes its cell"
    statistic = np.sum(difference[used] ** 2 / total[used])
    p = stats.chi2.sf(statistic, used.sum())
    assert p > ALPHA, f"flow is not symmetric: chi-square {statistic:.1f} on {used.sum()}, p = {p:.2g}"
