"""The verdict: what every candidate and NUTS achieve, what training cost, when it pays, and whether
all is well.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from ..diagnostics import APART

NUTS = "NUTS"
"""The name of its row."""

INSTEAD = "NUTS drew instead"
"""Words of the note on a kernel that failed in its final run, where NUTS's draws passed."""

NUTS_FAILED = "NUTS failed in its final run"
"""Words of the note on it, where the best candidate drew instead."""

MIXED = 1.05
"""R-hat from which on chains, as short as those that a sampler is measured with, say little of it."""

RATES = ("ess_per_gradient", "ess_sq_per_gradient", "ess_per_second")
"""Figures of a row by which it is compared."""

_UNITS = {"gradients": "in gradients", "seconds": "in time"}
_RUN = ("ess_per_gradient", "ess_sq_per_gradient", "num_gradients")


def grave(problems: Iterable[str]) -> list[str]:
    """Those for which draws must not be used."""
    return [text for text in problems if text.startswith(("error", "R-hat"))]


def sat_apart(pilot: Any) -> bool:
    """Whether a pilot's figures, whoever wrote them, say that chains sat `APART`, and not that they
    were slow ones in one mode.
    """
    facts = pilot if isinstance(pilot, dict) else {}
    distance = facts.get("apart")
    return isinstance(distance, int | float) and distance >= APART and facts.get("num_modes") != 1


class Row(NamedTuple):
    """One sampler, as measured: worst dimension, bulk ESS of x and of x^2.

    ``fixed_gradients`` and ``fixed_seconds`` (compilation included) are spent before its first
    draw; ``measured_gradients`` is what measuring it cost in all, where that is not part of making
    it (NUTS). ``nonfinite`` is the share of proposals whose log density was not finite, ``reach``
    the share of its figure that is believed for the end of a funnel that it missed (1 if none, 0
    where chains stood still).
    """

    name: str
    num_leapfrogs: int | None
    ess_per_gradient: float
    ess_sq_per_gradient: float
    ess_per_second: float
    acceptance_rate: float
    rhat_max: float
    fixed_gradients: int
    fixed_seconds: float
    measured_gradients: int = 0
    nonfinite: float = 0.0
    reach: float = 1.0

    @property
    def worst(self) -> float:
        """The lower of the two ESS per gradient; 0 where one is not defined."""
        value = min(self.ess_per_gradient, self.ess_sq_per_gradient)
        return value if math.isfinite(value) else 0.0

    @classmethod
    def read(cls, values: Any) -> Self:
        """A row from plain values, whoever wrote them: None is NaN, further fields are passed over.

        Raises ValueError for anything else.
        """
        fields: dict[str, Any] = {}
        if isinstance(values, dict):
            fields = {name: values.get(name) for name in cls._fields}
        name, length = fields.get("name"), fields.get("num_leapfrogs")
        if not isinstance(name, str) or len(name) > 80 or not (length is None or _is_count(length)):
            raise ValueError(f"no row of a verdict: {str(values)[:80]!r}")
        fields["reach"] = 1.0 if fields["reach"] is None else fields["reach"]
        counts = {"fixed_gradients", "measured_gradients"}
        for count in counts:
            if not _is_count(fields[count]):
                raise ValueError(
                    f"the row {name!r} has {count} = {str(fields[count])[:80]!r}, expected a count"
                )
        for figure in fields.keys() - counts - {"name", "num_leapfrogs"}:
            value = math.nan if fields[figure] is None else fields[figure]
            if type(value) not in (int, float):
                raise ValueError(
                    f"the row {name!r} has {figure} = {str(value)[:80]!r}, expected a number"
                )
            fields[figure] = float(value)
        return cls(**fields)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _costs(row: Row, unit: str) -> tuple[float, float]:
    """What is spent before the first draw, and for each effective one (infinite where there is
    none).
    """
    by_gradient = unit == "gradients"
    rate = row.worst if by_gradient else row.ess_per_second
    fixed = float(row.fixed_gradients) if by_gradient else row.fixed_seconds
    return fixed, 1 / rate if math.isfinite(rate) and rate > 0 else math.inf


def break_even(ours: Row, other: Row, *, unit: str) -> float | None:
    """Effective draws from which on ``ours`` is cheaper in all, in ``unit`` (gradients or
    seconds)::

        n = (fixed_ours - fixed_other) / (1 / rate_other - 1 / rate_ours)

    0 if it is cheaper from the first draw on, None if it is not for many draws (`cheaper_until`:
    but for few?).
    """
    (fixed, mine), (others_fixed, theirs) = _costs(ours, unit), _costs(other, unit)
    if math.isinf(theirs):
        return None if math.isinf(mine) else 0.0
    if mine >= theirs:
        return 0.0 if fixed < others_fixed and mine == theirs else None
    return max(0.0, (fixed - others_fixed) / (theirs - mine))


def cheaper_until(ours: Row, other: Row, *, unit: str) -> float:
    """Effective draws below which ``ours`` is cheaper in all though its rate is lower: less is
    spent before. Else 0.
    """
    (fixed, mine), (others_fixed, theirs) = _costs(ours, unit), _costs(other, unit)
    return max(0.0, (others_fixed - fixed) / (mine - theirs)) if mine > theirs else 0.0


class Verdict(NamedTuple):
    """Rows of all candidates and of NUTS, the chosen one's name, problems found, and the break-even
    points.

    ``failed`` is True if the draws must not be trusted; ``problems`` then says why.
    """

    rows: tuple[Row, ...]
    chosen: str
    problems: tuple[str, ...]
    failed: bool
    settings: dict[str, Any]

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """The verdict of a verdict.json (see `as_dict`), whoever wrote it. Raises ValueError if it
        is none.
        """
        values: dict[str, Any] = {name: content.get(name) for name in cls._fields}
        rows, problems = values["rows"], values["problems"]
        kinds = {"rows": list, "chosen": str, "problems": list, "failed": bool, "settings": dict}
        bad = [name for name, kind in kinds.items() if not isinstance(values[name], kind)]
        if bad or not all(isinstance(text, str) for text in problems):
            raise ValueError(
                f"no verdict of capriole: {', '.join(bad) or 'problems'} cannot be what is there"
            )
        return cls(
            **values | {"rows": tuple(Row.read(row) for row in rows), "problems": tuple(problems)}
        )

    def row(self, name: str) -> Row | None:
        """The row called ``name``, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def nuts(self) -> Row | None:
        """The row of NUTS, if it was compared."""
        return self.row(NUTS)

    def break_even(self, unit: str) -> float | None:
        """Effective draws above which the chosen kernel is cheaper than NUTS; None if never or not
        comparable.
        """
        chosen, nuts = self.row(self.chosen), self.nuts
        return (
            None
            if chosen is None or nuts is None or chosen is nuts or self._apart
            else break_even(chosen, nuts, unit=unit)
        )

    def recommendation(self) -> str:
        """One plain sentence or two."""
        chosen, nuts = self.row(self.chosen), self.nuts
        if self.failed:
            return f"Failed: {'; '.join(self.problems)}. Do not use these draws."
        if chosen is None or nuts is None:
            return f"Sampled with the {self.chosen}; NUTS was not compared."
        if chosen is nuts and (given_up := self._given_up):
            return f"The draws are NUTS's: {given_up}."
        if chosen is nuts:
            return (
                "No candidate that can be trusted beats NUTS on this target: the draws are NUTS's."
            )
        if failed := next((note for note in self._notes if NUTS_FAILED in note), ""):
            return f"The draws are those of the {self.chosen}: {failed}."
        if self._apart:
            return (
                f"Sampled with the {self.chosen}. NUTS was no choice: chains of plain HMC stayed "
                "apart on this target, "
                "so a short run of NUTS says nothing of how it moves between the places where they "
                "sat."
            )
        gain = chosen.worst / nuts.worst if nuts.worst > 0 else math.inf
        words = []
        for unit, name in _UNITS.items():
            point, until = self.break_even(unit), cheaper_until(chosen, nuts, unit=unit)
            if point is None and until >= 1:
                words.append(
                    f"it is cheaper than NUTS {name} below {_round(until)} effective draws"
                )
            elif point is None:
                words.append(f"NUTS is cheaper {name}")
            elif point < 1:
                words.append(f"it is cheaper than NUTS {name} from the first draw on")
            else:
                words.append(f"NUTS is cheaper {name} below {_round(point)} effective draws")
        doubt = ""
        if not nuts.rhat_max < MIXED:
            doubt = f" NUTS's chains had not mixed when measured (R-hat {nuts.rhat_max:.2f}), so its figures are rough."
        elif nuts.reach < 1:
            doubt = (
                " NUTS's chains missed an end of a funnel when measured, so its figures are rough."
            )
        return (
            f"The {self.chosen} gives {gain:.2g} times NUTS's effective draws per gradient; "
            f"{'; '.join(words)}.{self._so_few}{doubt}"
        )

    @property
    def effective_draws(self) -> float | None:
        """Of the run that was kept, in the worst dimension: bulk ESS of x or of x^2; None where
        that is not known.
        """
        final = self.settings.get("final")
        figures = [final.get(name) for name in _RUN] if isinstance(final, dict) else []
        known = [
            value for value in figures if isinstance(value, int | float) and math.isfinite(value)
        ]
        return min(known[:2]) * known[2] if len(known) == len(_RUN) else None

    @property
    def _so_few(self) -> str:
        """A sentence where NUTS would have been cheaper for a run like this one."""
        drawn, chosen, nuts = self.effective_draws, self.row(self.chosen), self.nuts
        if drawn is None or drawn < 1 or chosen is None or nuts is None:
            return ""

        def total(row: Row, unit: str) -> float:
            fixed, each = _costs(row, unit)
            return fixed + drawn * each

        how = " and ".join(
            name for unit, name in _UNITS.items() if total(nuts, unit) < total(chosen, unit)
        )
        return (
            how
            and f" For the {_round(drawn)} effective draws of this run NUTS would have been cheaper {how}."
        )

    @property
    def _apart(self) -> bool:
        """Whether chains of the pilot sat in different places."""
        return sat_apart(self.settings.get("pilot"))

    @property
    def _given_up(self) -> str:
        """The note that says why NUTS drew in another's place; empty if it did not."""
        return next((note for note in self._notes if INSTEAD in note), "")

    @property
    def _notes(self) -> list[str]:
        """What the search left out or gave up, and why."""
        return [note for note in _as_list(self.settings.get("notes")) if isinstance(note, str)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN and infinities become None."""
        rows = [row._asdict() | {"worst_per_gradient": row.worst} for row in self.rows]
        content = {
            "chosen": self.chosen,
            "failed": self.failed,
            "problems": list(self.problems),
            "recommendation": self.recommendation(),
            "break_even_effective_draws": {
                unit: self.break_even(unit) for unit in ("gradients", "seconds")
            },
            "rows": rows,
            "settings": self.settings,
        }
        return json.loads(json.dumps(content, default=float), parse_constant=lambda _: None)

    def table(self) -> str:
        """The rows as fixed-width text, best first, below them the recommendation, problems and
        notes.
        """
        width = max((19, *(len(row.name) for row in self.rows))) + 1
        head = (
            f"{'sampler':<{width}}{'M':>4}{'ESS/grad':>11}{'ESS of x²':>11}{'ESS/s':>11}{'accept':>8}{'R-hat':>8}"
            f"{'before: grads':>15}{'s':>7}"
        )
        lines = [head]
        for row in sorted(self.rows, key=lambda row: -row.worst):
            mark = "*" if row.name == self.chosen else " "
            rhat = f"{row.rhat_max:.3f}" if row.rhat_max < 100 else f"{row.rhat_max:.1g}"
            lines.append(
                f"{mark}{row.name:<{width - 1}}{row.num_leapfrogs or '-':>4}{row.ess_per_gradient:>11.3g}"
                f"{row.ess_sq_per_gradient:>11.3g}{row.ess_per_second:>11.3g}{row.acceptance_rate:>8.2f}"
                f"{rhat:>8}{row.fixed_gradients:>15.2g}{row.fixed_seconds:>7.1f}"
            )
        problems = [] if self.failed else [f"Problem: {text}." for text in self.problems]
        health = [f"Health: {text}." for text in (self.health(),) if text]
        notes = [f"Note: {text}." for text in self._notes]
        return "\n".join([*lines, "", self.recommendation(), *health, *problems, *notes])

    def health(self) -> str:
        """R-hat of the draws, proposals that were not finite, z against the pilot and modes, as far
        as known.
        """
        final, against, modes = (
            self.settings.get(name) for name in ("final", "against_pilot", "modes")
        )
        words = []
        if (
            isinstance(final, dict)
            and _is_number(final.get("rhat_max"))
            and _is_number(final.get("nonfinite"))
        ):
            words.append(
                f"R-hat at most {final['rhat_max']:.3f}; {final['nonfinite']:.2g} of proposals not "
                "finite"
            )
        if isinstance(against, dict) and all(
            map(_is_number, (against.get("z"), against.get("dimension")))
        ):
            words.append(
                f"means and variances within {abs(against['z']):.1f} standard errors of the "
                "pilot's "
                f"(worst in dimension {against['dimension']})"
            )
        shares = [
            (mode.get("draws"), mode.get("share"))
            for mode in _as_list(modes)
            if isinstance(mode, dict)
        ]
        if len(shares) == 1:
            words.append("one mode")
        elif shares and all(_is_number(number) for pair in shares for number in pair):
            drawn, expected = (
                " ".join(f"{share:.0%}" for share in column) for column in zip(*shares, strict=True)
            )
            words.append(
                f"{len(shares)} modes with {drawn} of the draws (the pilot's estimate: {expected})"
            )
        return "; ".join(words)


def _round(value: float) -> str:
    digits = max(0, math.floor(math.log10(value)) - 1)
    return f"{round(value / 10**digits) * 10**digits:,.0f}"
