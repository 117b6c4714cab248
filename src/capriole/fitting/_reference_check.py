"""What the pilot saw, held against the draws: means and spreads of every dimension, and the modes."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .. import diagnostics
from ..adaptation import Exploration
from ..diagnostics import Z_LIMIT, Place, labelled, places
from ._tail_coverage import marginals

_END, _HELD, _FEWEST = 0.005, 4.0, 32
LEAST_SHARE = 0.01
"""Estimated share of the mass from which on a mode must not be missing among the draws."""


class Seen(NamedTuple):
    """Draws beside the pilot.

    ``against_pilot`` holds the largest ``|z|`` of a mean or variance (None: the pilot's chains had
    not met), ``modes`` their places, with the share of the mass that the pilot estimated there and
    the share of the ``draws``; ``problems`` is what is wrong with either.
    """

    against_pilot: dict[str, Any] | None
    modes: list[dict[str, Any]]
    problems: list[str]


def facts(pilot: Exploration) -> dict[str, Any]:
    """What `seen` needs of a pilot, as plain values: marginals of a funnel's parents, moments,
    modes.
    """
    return {
        "num_modes": len(pilot.modes.log_mass),
        "marginals": marginals(pilot.profile),
        "moments": _plain(diagnostics.moments(pilot.draws)) if pilot.agreed else None,
        "modes": places(pilot.modes, pilot.draws),
    }


def _plain(found: diagnostics.Moments) -> dict[str, list[float | None]]:
    """For JSON: what is no number is None."""
    return {
        name: [x if np.isfinite(x) else None for x in row.tolist()]
        for name, row in found._asdict().items()
    }


def read_seen(pilot: dict[str, Any], *, dim: int) -> tuple[diagnostics.Moments | None, list[Place]]:
    """Moments and modes from plain values, whoever wrote them. Raises ValueError for anything else."""
    moments, found = pilot.get("moments"), Place.read(pilot.get("modes", []), dim=dim)
    if moments is None:
        return None, found
    rows = (
        [moments.get(name) for name in diagnostics.Moments._fields]
        if isinstance(moments, dict)
        else [None]
    )
    if not all(isinstance(row, list) and len(row) == dim for row in rows):
        raise ValueError(f"no moments of {dim} dimensions: {str(moments)[:80]!r}")
    if not all(x is None or type(x) in (int, float) for row in rows for x in row):  # type: ignore[union-attr]
        raise ValueError(f"moments that are not numbers: {str(moments)[:80]!r}")
    return diagnostics.Moments(*(np.array(row, np.float64) for row in rows)), found


def seen(draws: Float[np.ndarray, "chains draws dim"], pilot: dict[str, Any]) -> Seen:
    """Draws in the user's coordinates beside the `facts` of the pilot::

        z = (m - m_pilot) / sqrt(error^2 + error_pilot^2)          of x, and of (x - mean of the pilot)^2

    The pilot's chains adapt, and may all have missed an end of a funnel: z says that one of the two
    is not right. Where the marginals of parents are known the draws are held against those, and z
    is a figure only.
    """
    moments, found = read_seen(pilot, dim=draws.shape[2])
    problems: list[str] = []
    against = None if moments is None else _against(draws, moments)
    if against is not None and abs(against["z"]) > Z_LIMIT and not pilot.get("marginals"):
        problems.append(
            f"the {against['of']} of dimension {against['dimension']} is {abs(against['z']):.1f} "
            "standard errors from "
            "that of the pilot, whose chains had met: one of the two missed something; start wider "
            "(spread), draw more"
        )
    if len(found) < 2:
        return Seen(against, [{**place._asdict(), "draws": 1.0} for place in found], problems)
    labels = labelled(draws, found)
    summary = diagnostics.mode_summary(labels, len(found))
    held = [
        w > 0 and place.share >= LEAST_SHARE
        for place, w in zip(found, summary.weights, strict=True)
    ]
    if sum(held) > 1 and not summary.switches_per_step:
        problems.append(
            "error: no chain ever left the mode that it started in, so their shares are those of "
            "the starts: "
            "reparameterise, or sample every mode alone"
        )
    problems.extend(
        f"error: none of the draws is around {_where(place)}, where chains of the pilot sat and "
        f"{place.share:.0%} of "
        "the mass is, by its estimate: draw more, start wider (spread), or reparameterise"
        for place, weight in zip(found, summary.weights, strict=True)
        if weight == 0 and place.share >= LEAST_SHARE
    )
    modes = [
        {**place._asdict(), "draws": float(w)}
        for place, w in zip(found, summary.weights, strict=True)
    ]
    return Seen(against, modes, problems)


def _against(draws: np.ndarray, pilot: diagnostics.Moments) -> dict[str, Any] | None:
    ours = diagnostics.moments(draws, pilot.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.array(
            [
                (ours.mean - pilot.mean) / np.hypot(ours.mean_error, pilot.mean_error),
                (ours.variance - pilot.variance)
                / np.hypot(ours.variance_error, pilot.variance_error),
            ]
        )
    if not np.isfinite(z).any():
        return None
    of, dimension = np.unravel_index(
        np.nanargmax(np.where(np.isfinite(z), np.abs(z), np.nan)), z.shape
    )
    return {
        "z": float(z[of, dimension]),
        "of": ("mean", "variance")[of],
        "dimension": int(dimension),
    }


def held_far_out(
    draws: Float[np.ndarray, "chains draws dim"], acceptance_rate: Float[np.ndarray, "chains draws"]
) -> list[str]:
    """What to say where proposals from the far ends of a dimension are accepted `_HELD` times less
    often than from all draws: a chain gets there as rarely as back, so whether it was there in a
    run like this one is luck.

    The ends are the `_END` share of the draws on either side. ``acceptance_rate`` is that of the
    step that led to a draw, so a draw's own is the next one's.
    """
    rates, before = acceptance_rate[:, 1:].ravel(), draws[:, :-1].reshape(-1, draws.shape[2])
    num = int(_END * len(before))
    if num < _FEWEST:
        return []
    worst, where = float(np.mean(rates)) / _HELD, ""
    for k, values in enumerate(before.T):
        order = np.argpartition(values, (num, len(values) - num))
        for ends, side in ((order[:num], "below"), (order[-num:], "above")):
            if (rate := float(np.mean(rates[ends]))) < worst:
                edge = values[ends].max() if side == "below" else values[ends].min()
                worst, where = rate, f"dimension {k} is {side} {edge:.3g}"
    if not where:
        return []
    return [
        f"where {where} ({_END:.1%} of the draws) proposals are accepted at a rate of {worst:.2g}, "
        "elsewhere at "
        f"{np.mean(rates):.2g}: the far tail comes in spells, and may be missing or too heavy; "
        "draw more, or "
        "reparameterise"
    ]


def _where(place: Place) -> str:
    return f"({', '.join(f'{x:.3g}' for x in place.centre[:4])}{', ...' if len(place.centre) > 4 else ''})"
