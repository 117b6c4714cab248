"""A verdict as a piece of HTML for notebooks; all text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._verdict import Verdict

_CELL = "padding:.2em .7em;text-align:right;white-space:nowrap"
_COLOURS = {"failed": "#b3261e", "passed with warnings": "#9a6700", "passed": "#1a7f37"}
"""Colours of the badge; each has contrast 4.5 with its white letters."""
_HEADS = (
    "sampler",
    "M",
    "ESS/grad",
    "ESS of x²",
    "ESS/s",
    "accept",
    "R-hat",
    "gradients before",
    "seconds before",
)


def verdict_html(verdict: "Verdict") -> str:
    """A badge, the recommendation, the table of samplers, and what is said of the draws.

    Args:
        verdict: Any verdict.

    Returns:
        One ``div``, which inherits the colours of the page.
    """
    colour = _COLOURS[verdict.status]
    badge = (
        f'<b style="background:{colour};color:#fff;border-radius:.3em;padding:.1em .5em">'
        f"{escape(verdict.status)}</b>"
    )
    said = [text for text in (verdict.health,) if text]
    problems = [] if verdict.failed else list(map(str, verdict.problems))
    parts = [
        f"<p>{badge} {escape(verdict.recommendation)}</p>",
        _table(verdict),
        _list("Health", said),
        _list("Problems", problems),
        _list("Notes", [note.text for note in verdict.notes]),
    ]
    return f'<div style="font-size:.95em;line-height:1.4">{"".join(parts)}</div>'


def _table(verdict: "Verdict") -> str:
    rows = []
    for row in sorted(verdict.rows, key=lambda row: -row.worst):
        figures = (
            str(row.num_leapfrogs or "-"),
            f"{row.ess_per_gradient:.3g}",
            f"{row.ess_sq_per_gradient:.3g}",
            f"{row.ess_per_second:.3g}",
            f"{row.acceptance_rate:.2f}",
            f"{row.rhat_max:.4g}",
            f"{row.fixed_gradients:,}",
            f"{row.fixed_seconds:.1f}",
        )
        chosen = row.name == verdict.chosen
        name = f"{row.name} (drew)" if chosen else row.name
        weight = ";font-weight:bold" if chosen else ""
        rows.append(f"<tr>{_cells('td', (name, *figures), weight)}</tr>")
    return (
        '<table style="border-collapse:collapse;margin:.5em 0">'
        f"<thead><tr>{_cells('th', _HEADS, ';border-bottom:1px solid')}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cells(tag: str, texts: Sequence[str], style: str) -> str:
    """Cells of one row, the first of them to the left."""
    return "".join(
        f'<{tag} style="{_CELL}{style}{"" if i else ";text-align:left"}">{escape(text)}</{tag}>'
        for i, text in enumerate(texts)
    )


def _list(title: str, texts: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<p style='margin:.4em 0 0'><b>{title}</b></p><ul>{items}</ul>" if items else ""
