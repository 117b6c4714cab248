"""The table of unseen targets."""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from . import _curved, _hierarchies, _modes, _smooth
from ._base import AbstractUnseen, Kind


class UnseenEntry(NamedTuple):
    """One line of the table: name, kind, summary, and what makes the target."""

    name: str
    kind: Kind
    summary: str
    make: Callable[[], AbstractUnseen]


_ENTRIES = (
    UnseenEntry(
        "gauss-1e6",
        Kind.GAUSSIAN,
        "40-d, condition number 1e6, rotated axes",
        _smooth.ill_conditioned,
    ),
    UnseenEntry("ar1", Kind.GAUSSIAN, "100-d AR(1), coefficient 0.95", _smooth.autoregression),
    UnseenEntry(
        "log-gamma", Kind.SKEWED, "20 log-gamma variables, shapes 0.3 to 5", _smooth.log_gammas
    ),
    UnseenEntry(
        "students",
        Kind.HEAVY_TAILED,
        "5-d t with 3 and 5-d t with 8 degrees of freedom, correlated",
        _smooth.students,
    ),
    UnseenEntry(
        "shoulders",
        Kind.HEAVY_TAILED,
        "10 Laplace variables and 10 mixtures with heavy shoulders, scales 0.1 to 10",
        _smooth.laplace_and_shoulders,
    ),
    UnseenEntry(
        "funnel-mild",
        Kind.FUNNEL,
        "50 children, log sd of standard deviation 0.5",
        _hierarchies.mild_funnel,
    ),
    UnseenEntry(
        "funnel-strong",
        Kind.FUNNEL,
        "5 children, log sd of standard deviation 1.3",
        _hierarchies.strong_funnel,
    ),
    UnseenEntry(
        "two-levels",
        Kind.HIERARCHY,
        "6 groups of 4 items, two log sds, centred, 33-d",
        _hierarchies.two_levels,
    ),
    UnseenEntry(
        "shrinkage",
        Kind.SHRINKAGE,
        "5 coefficients with half-t(4) local scales, centred, 11-d",
        _hierarchies.shrinkage,
    ),
    UnseenEntry("bananas", Kind.CURVED, "three pairs, 6-d", _curved.bananas),
    UnseenEntry("parabolas", Kind.CURVED, "x2 ~ N(x1^2 / 8, 0.4^2), 3-d", _curved.parabolas),
    UnseenEntry("ring", Kind.RING, "twisted ring, 2-d", _curved.twisted_ring),
    UnseenEntry("shell", Kind.RING, "twisted shell, 4-d", _curved.twisted_shell),
    UnseenEntry("two-modes", Kind.MODES, "8 sd apart, weights 0.2 and 0.8, 5-d", _modes.two_modes),
    UnseenEntry("three-widths", Kind.MODES, "sd 0.3, 1 and 2, 3-d", _modes.three_widths),
    UnseenEntry("narrow-wide", Kind.MODES, "sd 0.1 beside a wide one, 2-d", _modes.narrow_and_wide),
    UnseenEntry("betas", Kind.BOUNDED, "logits of 8 beta variables", _smooth.logit_betas),
    UnseenEntry(
        "dirichlet",
        Kind.BOUNDED,
        "7 proportions by stick-breaking, 6-d",
        _smooth.stick_dirichlet,
    ),
    UnseenEntry(
        "warped", Kind.BOUNDED, "logits of uniforms, warped by sines, 6-d", _smooth.warped_uniform
    ),
    UnseenEntry(
        "volatile-level",
        Kind.SERIES,
        "random walk with random volatility, centred, 30-d",
        _hierarchies.volatile_level,
    ),
)

UNSEEN: dict[str, UnseenEntry] = {entry.name: entry for entry in _ENTRIES}
"""Targets that nothing in `capriole.fit` was tuned to, by name."""


def make_unseen(name: str) -> AbstractUnseen:
    """The unseen target called ``name``; it needs JAX's x64 mode.

    Args:
        name: A key of `UNSEEN`.

    Returns:
        The target.

    Raises:
        ValueError: If there is no such target.
    """
    return UNSEEN[check_name(name)].make()


def check_name(name: str) -> str:
    """``name``, if it is in the table.

    Raises:
        ValueError: If it is not; the message has the closest name.
    """
    if name not in UNSEEN:
        close = difflib.get_close_matches(name, UNSEEN, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown unseen target {name!r}; {hint}known are {', '.join(UNSEEN)}")
    return name
