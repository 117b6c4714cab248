"""Page and summary of the peers bench, from the stored cells alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from capriole.diagnostics import RHAT_LIMIT, Z_LIMIT
from capriole.runs import RunFolder

from ..cells import cells_by_target, named
from ..report import Section, page, picture, table, text
from ._figures import cost_panels, rates_by_target
from ._goals import Table, verdicts
from ._judge import Cells, judged, standings
from ._settings import BENCH_TARGETS, SAMPLERS
from ._tables import (
    COST_HEADER,
    GOAL_HEADER,
    RANK_HEADER,
    TARGET_HEADER,
    cost_rows,
    goal_rows,
    label,
    rank_rows,
    short,
    summary,
    target_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = "summary.json"
UNITS = ("gradients", "seconds")


def load_cells(folder: Path) -> Cells:
    """Complete cells below ``folder`` by target, in the registry's order."""
    return cells_by_target(
        folder, BENCH_TARGETS, lambda c: (SAMPLERS.index(c["sampler"]), c["seed"])
    )


def write_report(folder: Path, target: Path) -> Path:
    """Write the page about the cells below ``folder``, and ``summary.json`` beside it.

    Raises ValueError if there are no cells.
    """
    cells = load_cells(folder)
    if not cells:
        raise ValueError(f"no finished cell below {folder}; run `capriole-lab bench peers` first")
    ranked = {name: standings(found) for name, found in cells.items()}
    RunFolder(target.parent).write_json(SUMMARY, about(cells) | summary(ranked, verdicts(ranked)))
    target.write_text(render(cells), encoding="utf-8")
    return target


def about(cells: Cells) -> dict[str, list[Any]]:
    """What the cells were run with; one value, or all of them if they differ."""
    every = [cell for found in cells.values() for cell in found]
    fields = {
        "preset": [cell["preset"] for cell in every],
        "device": [named(cell["device"]) for cell in every],
        "versions": [", ".join(f"{k} {v}" for k, v in cell["versions"].items()) for cell in every],
        "seeds": [cell["seed"] for cell in every],
        "dtypes": [cell["dtype"] for cell in every],
    }
    return {name: list(dict.fromkeys(values)) for name, values in fields.items()}


def lead(cells: Cells) -> str:
    """The conditions of the measurement in one sentence."""
    found = {name: ", ".join(map(str, values)) for name, values in about(cells).items()}
    return (
        f"{len(cells)} targets, seeds {found['seeds']}, preset {found['preset']}, "
        f"{found['device']}, {found['dtypes']}; {found['versions']}."
    )


def render(cells: Cells) -> str:
    """The page as a string."""
    ranked = {name: standings(found) for name, found in cells.items()}
    sections = [_verdict(ranked), _ranking(ranked)]
    sections += [s for s in (_costs(ranked),) if s is not None]
    return page(
        "capriole.fit against the field",
        lead(cells),
        [*sections, _targets(ranked, cells), _protocol()],
    )


def _verdict(ranked: Table) -> Section:
    found = verdicts(ranked)
    met = f"{sum(v.passed for v in found)} of {len(found)} goals are met."
    words = f"{met} Targets: how many stand behind a figure."
    return Section("Verdict", [text(words), table(GOAL_HEADER, goal_rows(found))])


def _labels(ranked: Table) -> dict[str, str]:
    present = {s.sampler for found in ranked.values() for s in found}
    return {name: label(name) for name in SAMPLERS if name in present}


def rates_figure(ranked: Table) -> "Figure":
    """Effective draws per gradient and second of every sampler that passes, by target."""
    panels = {
        words: {
            short(target): {s.sampler: rate for s in found if (rate := s.rate[unit])}
            for target, found in ranked.items()
        }
        for unit, words in (
            ("gradients", "effective draws per gradient"),
            ("seconds", "effective draws per second"),
        )
    }
    return rates_by_target(panels, _labels(ranked))


def _ranking(ranked: Table) -> Section:
    caption = (
        "Worst dimension, smaller of the bulk ESS of x and x², sampling only, log axes. "
        "Samplers that do not pass have no marker."
    )
    words = (
        f"A sampler is ranked if R-hat is below {RHAT_LIMIT} and its draws agree with what is "
        f"known of the target (all |z| at most {Z_LIMIT}). Ratios are capriole's rate over that of "
        "the best passing peer; ∞ means that no peer passes, 0 that capriole does not though a "
        "peer does."
    )
    blocks = [
        text(words),
        table(RANK_HEADER, rank_rows(ranked)),
        picture(rates_figure(ranked), caption),
    ]
    return Section("Ranking", blocks)


def _costs(ranked: Table) -> Section | None:
    rows = cost_rows(ranked)
    if not rows:
        return None
    blocks = [
        text(
            "Before: warm-up, search, training of every candidate, comparison with NUTS, warm-up, "
            "discarded runs; seconds with compilation. Capriole pays after so many effective "
            "draws; 0: from the first draw on."
        ),
        table(COST_HEADER, rows),
    ]
    for unit in UNITS:
        lines = {
            short(target): {
                s.sampler: (fixed, rate)
                for s in found
                if (rate := s.rate[unit]) and (fixed := s.fixed[unit]) is not None
            }
            for target, found in ranked.items()
        }
        known = {target: each for target, each in lines.items() if each}
        caption = f"Break-even: total {unit} to so many effective draws."
        blocks.append(picture(cost_panels(known, _labels(ranked), unit=unit), caption))
    return Section("Preparation and break-even", blocks)


def _targets(ranked: Table, cells: Cells) -> Section:
    tables = [
        table(
            TARGET_HEADER,
            target_rows(found, judged(cells[name])),
            caption=short(name),
            folded=len(ranked) > 4,
        )
        for name, found in ranked.items()
    ]
    words = (
        "Figures of the first seed that passes. A sampler passes if most seeds do. Steps count "
        "thinned ones."
    )
    return Section("Every target", [text(words), *tables])


def _protocol() -> Section:
    words = (
        "Every sampler starts from the same over-dispersed positions and adapts as its library "
        "recommends. Gradients of all chains are counted. While R-hat fails but 4 or 16 times the "
        "draws may mend it, a run is repeated at that length. On targets with modes every sampler "
        "is run a second time with all chains in one mode (capriole: its frozen kernel), and must "
        "find the exact weights from there too. Where no truth is known, means and variances must "
        "agree with those of the best NUTS that mixes. docs/peers.md has the details."
    )
    return Section("Protocol", [text(words)])
