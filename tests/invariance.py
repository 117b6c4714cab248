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

from capriole_lab import calibration
from capriole_lab.calibration import found_distance, one_sample_p, two_sample_p

ALPHA = 1e-6


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
    found = calibration.walk(jax.random.key(seed), transition, jnp.asarray(start), num_steps=steps)
    return Walk(start, found.end, fresh, found.acceptance_rate)


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
