"""The statistical checks of a kernel, from exact draws: each raises AssertionError on a kernel that
is not exact.

Bands are Dvoretzky-Kiefer-Wolfowitz-Massart's at a false alarm of 1e-6 each (TESTING 2.5); seeds
are fixed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from capriole.coordinates import from_user, to_user
from capriole.sampling import draw_chains

ALPHA = 1e-6
MOST_STEPS = 8
"""Capacity of the loop, whose length is data: any number of steps is the same program."""


def one_sample_p(values, cdf):
    """Bound ``2 exp(-2 n D^2)`` on the p-value of the distance between draws and a distribution
    (Massart 1990).
    """
    u, n = np.sort(cdf(values)), len(values)
    return _bound(max(np.max(np.arange(1, n + 1) / n - u), np.max(u - np.arange(n) / n)), n)


def two_sample_p(first, second):
    """Bound on the p-value of the distance between two samples (Wei and Dudley 2012)."""
    n = len(first)
    assert n == len(second) >= 458
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return 0.0
    both = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), both, side="right") / n for sample in (first, second)]
    return _bound(np.max(np.abs(below[0] - below[1])), n / 2)


def _bound(distance, effective):
    """A distance that is no number rejects."""
    return min(1.0, 2 * np.exp(-2 * effective * distance**2)) if np.isfinite(distance) else 0.0


def found_distance(level, effective):
    """The smallest distance that is rejected."""
    return np.sqrt(np.log(2 / level) / (2 * effective))


class Walk(NamedTuple):
    """Exact draws, where a few transitions took them, and fresh exact draws, each (dim, n); the
    acceptance rate.
    """

    start: np.ndarray
    end: np.ndarray
    fresh: np.ndarray
    acceptance: float


def walk(transition, target, *, n=40_000, steps=4, seed=0):
    """``steps`` transitions from ``n`` exact draws of ``target``, through the library's own
    sampling loop.
    """
    rng = np.random.default_rng(seed)
    start, fresh = target.draw(rng, n), target.draw(rng, n)
    init_key, draw_key = jax.random.split(jax.random.key(seed))
    state = transition.init(from_user(transition.target, jnp.asarray(start)), init_key)
    draws = draw_chains(draw_key, transition, state, num_draws=steps, chunk_size=MOST_STEPS)
    end = np.asarray(to_user(transition.target, draws.state.position))
    return Walk(start, end, fresh, float(draws.record.acceptance_rate.mean()))


def p_values(target, found: Walk):
    """A bound on the p-value of every projection: coordinates, directions, radius, energy, mode."""
    out = {
        f"x{i} against fresh draws": two_sample_p(a, b)
        for i, (a, b) in enumerate(zip(found.end, found.fresh, strict=True))
    }
    energies = [np.asarray(target(jnp.asarray(x))) for x in (found.end, found.fresh)]
    out["energy against fresh draws"] = two_sample_p(*energies)
    if hasattr(target, "standardise"):
        z = target.standardise(found.end)
        directions = np.random.default_rng(9).normal(size=(4, len(z)))
        directions = np.concatenate(
            [np.eye(len(z)), directions / np.linalg.norm(directions, axis=1, keepdims=True)]
        )
        out |= {
            f"direction {i}": one_sample_p(d @ z, special.ndtr) for i, d in enumerate(directions)
        }
        out["radius"] = one_sample_p(np.sum(z**2, axis=0), lambda r: special.chdtr(len(z), r))
    if hasattr(target, "cdfs"):
        out |= {
            f"x{i}": one_sample_p(x, cdf)
            for i, (x, cdf) in enumerate(zip(found.end, target.cdfs(), strict=True))
        }
        p = float(target.cdfs()[0](target.centre / 2))
        share = np.mean(found.end[0] < target.centre / 2)
        out["mode"] = 2 * special.ndtr(-abs(share - p) / np.sqrt(p * (1 - p) / found.end.shape[1]))
    return out


def check_invariance(transition, target, **options):
    """Exact draws stay exact draws, they do move, and the test has the power to tell (a band below
    0.02).
    """
    found = walk(transition, target, **options)
    assert found_distance(ALPHA, found.end.shape[1]) < 0.02
    scale = found.start.std(axis=1, keepdims=True)
    moved = np.mean(((found.end - found.start) / scale) ** 2)
    assert moved > 0.1, f"chains hardly move: mean squared jump {moved:.3g}"
    assert found.acceptance > 0.1, f"acceptance {found.acceptance:.3g}"
    bad = {name: p for name, p in p_values(target, found).items() if not p > ALPHA}
    assert not bad, f"not invariant: p-values {bad}"


def check_symmetry(transition, target, *, bins=8, **options):
    """The flow between cells of the plane is symmetric (Bowker 1948, TESTING 2.7)."""
    found = walk(transition, target, steps=1, **options)
    check_flow(
        *(x - np.median(found.start, axis=1, keepdims=True) for x in (found.start, found.end)),
        bins=bins,
    )


def check_flow(start, end, *, bins=8):
    """Bowker's test on the flow between ``bins`` sectors of the plane, from (2, n) to (2, n)
    points.
    """

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
    assert p > ALPHA, (
        f"flow is not symmetric: chi-square {statistic:.1f} on {used.sum()}, p = {p:.2g}"
    )
