"""The verdict: what every sampler achieves, what it cost, when it pays, and whether all is well."""

import math
from typing import Any, NamedTuple, Self

from ..diagnostics import Difference, ModeSearch, ModeShare, Problem
from ..runtime import from_plain, to_plain
from ._budget import Stage
from ._candidate import NUTS, KernelMetrics, SamplerReport
from ._context import Note, NoteKind
from ._thresholds import THRESHOLDS
from .result._html import verdict_html

RATES = ("ess_per_gradient", "ess_sq_per_gradient", "ess_per_second")
"""Figures of a row by which it is compared."""

_UNITS = {"gradients": "in gradients", "seconds": "in time"}
"""Units in which costs are compared, and their words."""


def _costs(row: SamplerReport, unit: str) -> tuple[float, float]:
    """What is spent before the first draw, and for each effective one (infinite where there is
    none).
    """
    by_gradient = unit == "gradients"
    rate = row.worst if by_gradient else row.ess_per_second
    fixed = float(row.fixed_gradients) if by_gradient else row.fixed_seconds
    return fixed, 1 / rate if math.isfinite(rate) and rate > 0 else math.inf


def break_even(ours: SamplerReport, other: SamplerReport, *, unit: str) -> float | None:
    """Effective draws from which on one sampler is cheaper in all than another::

        n = (fixed_ours - fixed_other) / (1 / rate_other - 1 / rate_ours)

    Args:
        ours: The one.
        other: The other.
        unit: "gradients" or "seconds".

    Returns:
        The number: 0 if it is cheaper from the first draw on, None if it is not for many draws. It
        may then be for few: see `cheaper_until`.
    """
    (fixed, mine), (others_fixed, theirs) = _costs(ours, unit), _costs(other, unit)
    if math.isinf(theirs):
        return None if math.isinf(mine) else 0.0
    if mine >= theirs:
        return 0.0 if fixed < others_fixed and mine == theirs else None
    return max(0.0, (fixed - others_fixed) / (theirs - mine))


def cheaper_until(ours: SamplerReport, other: SamplerReport, *, unit: str) -> float:
    """Effective draws below which a slower sampler is cheaper in all, as it needs less before.

    Args:
        ours: The slower one.
        other: The other.
        unit: "gradients" or "seconds".

    Returns:
        The number; 0 if it is not slower, or needs as much before.
    """
    (fixed, mine), (others_fixed, theirs) = _costs(ours, unit), _costs(other, unit)
    return max(0.0, (others_fixed - fixed) / (mine - theirs)) if mine > theirs else 0.0


class Verdict(NamedTuple):
    """What a fit says of its draws and of its kernel.

    Attributes:
        rows: All samplers as measured, NUTS among them if it was compared.
        chosen: The name of the sampler whose draws were returned.
        problems: What is wrong with the draws.
        failed: Whether the draws must not be used; ``problems`` then says why.
        notes: What the search left out, gave up or learnt.
        is_multimodal: Whether there are several modes: chains of the warm-up sat in them, or the
            search found one that no chain had met.
        settings: Plain values: settings, costs, figures of the run and of the warm-up.
        final: What the kernel achieved in its own run; None where NUTS drew.
        difference: The moment that differs most from the warm-up's.
        modes: The modes, with the share of the draws in each.
        stages: What each stage of the fit took.
        search: What was searched for modes that no chain met.
    """

    rows: tuple[SamplerReport, ...]
    chosen: str
    problems: tuple[Problem, ...]
    failed: bool
    notes: tuple[Note, ...]
    is_multimodal: bool
    settings: dict[str, Any]
    final: KernelMetrics | None = None
    difference: Difference | None = None
    modes: tuple[ModeShare, ...] = ()
    stages: tuple[Stage, ...] = ()
    search: ModeSearch | None = None

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """The verdict of a verdict.json, whoever wrote it.

        Args:
            content: What `as_dict` returned.

        Returns:
            The verdict.

        Raises:
            ValueError: It is no verdict; the text says which value cannot be.
        """
        found = from_plain(cls, content, "verdict")
        for row in found.rows:
            row.checked()
        return found

    def __repr__(self) -> str:
        """The table, as it is printed."""
        return self.table()

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return verdict_html(self)

    @property
    def status(self) -> str:
        """One of "failed", "passed with warnings" and "passed"."""
        if self.failed:
            return "failed"
        return "passed with warnings" if self.problems else "passed"

    def row(self, name: str) -> SamplerReport | None:
        """The row called ``name``, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def nuts(self) -> SamplerReport | None:
        """The row of NUTS, if it was compared."""
        return self.row(NUTS)

    def break_even(self, unit: str) -> float | None:
        """Effective draws above which the chosen kernel is cheaper than NUTS.

        Args:
            unit: "gradients" or "seconds".

        Returns:
            The number; None if it never is, or cannot be compared.
        """
        chosen, nuts = self.row(self.chosen), self.nuts
        if chosen is None or nuts is None or chosen is nuts or self.is_multimodal:
            return None
        if not _is_fair(nuts):
            return None
        return break_even(chosen, nuts, unit=unit)

    @property
    def recommendation(self) -> str:
        """One plain sentence or two."""
        chosen, nuts = self.row(self.chosen), self.nuts
        if self.failed:
            return f"Failed: {'; '.join(map(str, self.problems))}. Do not use these draws."
        if chosen is None or nuts is None:
            return f"Sampled with the {self.chosen}; NUTS was not compared."
        if chosen is nuts and (given_up := self._note(NoteKind.NUTS_DREW_INSTEAD)):
            return f"The draws are NUTS's: {given_up}."
        if chosen is nuts:
            return (
                "No candidate that can be trusted beats NUTS on this target: the draws are NUTS's."
            )
        if failed := self._note(NoteKind.NUTS_FAILED):
            return f"The draws are those of the {self.chosen}: {failed}."
        if self.is_multimodal:
            return (
                f"Sampled with the {self.chosen}. NUTS was no choice: this target has several "
                "modes that chains of plain HMC did not connect, so a short run of NUTS says "
                "nothing of how it moves between them."
            )
        if not _is_fair(nuts):
            return (
                f"Sampled with the {self.chosen}. NUTS's chains had not mixed when measured (R-hat "
                f"{nuts.rhat_max:.2f}), so nothing is said of how it compares."
            )
        words = "; ".join(_when_cheaper(self, chosen, nuts, unit) for unit in _UNITS)
        return (
            f"{self._so_few}The {self.chosen} gives {_times(chosen.worst / nuts.worst)} NUTS's "
            f"effective draws per gradient; {words}.{_doubt(nuts)}"
        )

    @property
    def effective_draws(self) -> float | None:
        """Effective draws of the run that was kept, in the worst dimension; None if not known."""
        if self.final is None:
            return None
        rates = (self.final.ess_per_gradient, self.final.ess_sq_per_gradient)
        known = all(map(math.isfinite, rates))
        return min(rates) * self.final.num_gradients if known else None

    @property
    def _so_few(self) -> str:
        """A sentence where NUTS would have been cheaper for a run like this one."""
        drawn, chosen, nuts = self.effective_draws, self.row(self.chosen), self.nuts
        if drawn is None or drawn < 1 or chosen is None or nuts is None:
            return ""

        def total(row: SamplerReport, unit: str) -> float:
            fixed, each = _costs(row, unit)
            return fixed + drawn * each

        units = [name for unit, name in _UNITS.items() if total(nuts, unit) < total(chosen, unit)]
        if not units:
            return ""
        text = f"For the {_round(drawn)} effective draws of this run NUTS would have been cheaper"
        return f"{text} {' and '.join(units)}. "

    def _note(self, kind: NoteKind) -> str:
        """The first note of a kind; empty if there is none."""
        return next((note.text for note in self.notes if note.kind is kind), "")

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values for JSON.

        Returns:
            All fields, and for people the name and the worst rate of every row, the recommendation
            and the break-even points. Numbers that are not finite are None.
        """
        content = to_plain(self)
        extra = [{"name": row.name, "worst_per_gradient": row.worst} for row in self.rows]
        rows = [plain | more for plain, more in zip(content["rows"], extra, strict=True)]
        points = {unit: self.break_even(unit) for unit in _UNITS}
        return content | {
            "rows": rows,
            "recommendation": self.recommendation,
            "break_even_effective_draws": points,
        }

    def table(self) -> str:
        """All samplers as fixed-width text, best first; what is said of the draws; what it took."""
        width = max((19, *(len(row.name) for row in self.rows))) + 1
        lines = [
            f"{'sampler':<{width}}{'M':>4}{'ESS/grad':>11}{'ESS of x²':>11}{'ESS/s':>11}"
            f"{'accept':>8}{'R-hat':>8}{'before: grads':>15}{'s':>7}"
        ]
        for row in sorted(self.rows, key=lambda row: -row.worst):
            mark = "*" if row.name == self.chosen else " "
            rhat = f"{row.rhat_max:.3f}" if row.rhat_max < 100 else f"{row.rhat_max:.1g}"
            lines.append(
                f"{mark}{row.name:<{width - 1}}{row.num_leapfrogs or '-':>4}"
                f"{row.ess_per_gradient:>11.3g}{row.ess_sq_per_gradient:>11.3g}"
                f"{row.ess_per_second:>11.3g}{row.acceptance_rate:>8.2f}{rhat:>8}"
                f"{row.fixed_gradients:>15.2g}{row.fixed_seconds:>7.1f}"
            )
        problems = [] if self.failed else [f"Problem: {problem}." for problem in self.problems]
        health = [f"Health: {text}." for text in (self.health,) if text]
        notes = [f"Note: {note.text}." for note in self.notes]
        searched = [] if self.search is None else [f"Searched: {self.search}."]
        costs = ["", self.costs()] if self.stages else []
        said = [*health, *problems, *notes, *searched]
        return "\n".join([*lines, "", self.recommendation, *said, *costs])

    def costs(self) -> str:
        """What each stage took, one line each, beside what it was expected to take."""
        lines = [f"{'stage':<25}{'gradients':>11}{'expected':>11}{'s':>8}{'compiling':>11}"]
        for name, cost, expected in self.stages:
            guess = f"{expected.num_gradients:.2g}" if expected.num_gradients else "-"
            lines.append(
                f"{name:<25}{cost.num_gradients:>11.2g}{guess:>11}{cost.seconds:>8.1f}"
                f"{cost.compile_seconds:>11.1f}"
            )
        return "\n".join(lines)

    @property
    def health(self) -> str:
        """R-hat, proposals that were not finite, z against the warm-up and modes, if known."""
        words = []
        if self.final is not None:
            words.append(
                f"R-hat at most {self.final.rhat_max:.3f}; {self.final.nonfinite:.2g} of proposals "
                "not finite"
            )
        if self.difference is not None:
            words.append(
                f"means and variances within {abs(self.difference.z):.1f} standard errors of the "
                f"warm-up's (worst in {_name(self.difference)})"
            )
        if len(self.modes) == 1:
            words.append("one mode")
        elif self.modes:
            drawn = " ".join(f"{mode.draws:.0%}" for mode in self.modes)
            expected = " ".join(f"{mode.share:.0%}" for mode in self.modes)
            words.append(
                f"{len(self.modes)} modes with {drawn} of the draws (the warm-up's estimate: "
                f"{expected})"
            )
        return "; ".join(words)


def _name(difference: Difference) -> str:
    return difference.variable or f"x[{difference.dimension}]"


def _when_cheaper(verdict: Verdict, chosen: SamplerReport, nuts: SamplerReport, unit: str) -> str:
    """For how many effective draws the chosen kernel is cheaper than NUTS, in words."""
    point, name = verdict.break_even(unit), _UNITS[unit]
    until = cheaper_until(chosen, nuts, unit=unit)
    if point is None and until >= 1:
        return f"it is cheaper than NUTS {name} below {_round(until)} effective draws"
    if point is None:
        return f"NUTS is cheaper {name}"
    if point < 1:
        return f"it is cheaper than NUTS {name} from the first draw on"
    return f"NUTS is cheaper {name} below {_round(point)} effective draws"


def _doubt(nuts: SamplerReport) -> str:
    """A sentence where NUTS's figures are rough."""
    if nuts.reach < 1:
        return " NUTS's chains missed an end of a funnel when measured, so its figures are rough."
    return ""


def _is_fair(nuts: SamplerReport) -> bool:
    """Whether it may be compared with: its chains met when measured."""
    return nuts.rhat_max < THRESHOLDS.mixed_rhat and nuts.worst > 0


def _times(gain: float) -> str:
    """A ratio of two estimates in rounded words."""
    if gain < 2:
        return f"{gain:.2g} times"
    return f"{gain:.0f} times" if gain < 10 else f"{_round(gain)} times"


def _round(value: float) -> str:
    digits = max(0, math.floor(math.log10(value)) - 1)
    return f"{round(value / 10**digits) * 10**digits:,.0f}"
