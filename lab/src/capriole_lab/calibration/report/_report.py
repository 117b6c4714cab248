"""The page of `capriole-lab calibrate` and its figures, from the stored cells alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from capriole.runtime import write_atomically

from ...cells import read_cells
from ...report import Section, page, picture, points, save, table, text
from .._settings import SUBJECTS
from ._figures import p_value_chart, rank_panels
from ._tables import (
    BUG_HEADER,
    KERNEL_HEADER,
    SBC_HEADER,
    Cells,
    Verdict,
    blind_spots,
    bug_rows,
    kernel_rows,
    kernels_in_words,
    p_text,
    procedures,
    rows_of,
    sbc_rows,
    verdicts,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(NamedTuple):
    """Where the page is, and what it says."""

    path: Path
    found: list[Verdict]

    @property
    def passed(self) -> bool:
        """Whether everything is as it must be."""
        return all(verdict.passed for verdict in self.found)

    @property
    def lines(self) -> list[str]:
        """The verdict, a line each."""
        return [f"{'pass' if verdict.passed else 'FAIL'}  {verdict.text}" for verdict in self.found]


def load_cells(folder: Path) -> Cells:
    """Complete cells below ``folder`` by subject; seeds after the first in the name."""
    found = read_cells(folder)
    cells: Cells = {}
    for cell in sorted(found, key=lambda cell: (SUBJECTS.index(cell["subject"]), cell["seed"])):
        name = cell["subject"]
        cells[f"{name}-seed-{cell['seed']}" if name in cells else name] = cell
    return cells


def write_report(folder: Path, target: Path) -> Report:
    """Write page and figures about the cells below ``folder``. Raises ValueError without any."""
    cells = load_cells(folder)
    if not cells:
        raise ValueError(f"no finished cell below {folder}; see the log.txt of its cells")
    for name, figure in figures(cells).items():
        save(figure, target.parent / f"{name}.png")
    write_atomically(target, render(cells).encode())
    return Report(target, verdicts(cells))


def figures(cells: Cells) -> "dict[str, Figure]":
    """A chart of p-values for each subject, and for a model that of its ranks."""
    out = {}
    for name, cell in cells.items():
        found: dict[str, dict[str, tuple[float, bool]]] = {
            procedure: {} for procedure in procedures({name: cell})
        }
        for row in cell["rows"]:
            found[row["procedure"]][row["case"]] = row["p"], row["rejected"]
        out[f"{name}-p-values"] = p_value_chart(found, cell["share"])
        if "calibration" in cell:
            drawn: dict[str, Any] = cell["calibration"]
            out[f"{name}-ranks"] = rank_panels(
                drawn["counts"], drawn["low"], drawn["high"], drawn["num"]
            )
    return out


def lead(cells: Cells) -> str:
    """Conditions in a sentence."""
    first, seeds = next(iter(cells.values())), sorted({cell["seed"] for cell in cells.values()})
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    which, level = (
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
        len(seeds) * first["level"],
    )
    return (
        f"Preset {first['preset']}, {which}, {first['device']} ({first['cores']} cores), "
        f"{first['dtype']}; {versions}. Were all kernels exact, any of them would be rejected with "
        f"probability {level:g} at most: {first['share']:.1e} for each procedure on each sound "
        "kernel, Bonferroni among its quantities."
    )


def render(cells: Cells) -> str:
    """The page as a string."""
    drawn = figures(cells)
    captions = {
        "p-values": "smallest p-value of the kernel and of every wrong one; red is rejected",
        "ranks": "simulation-based calibration: blue the kernel, red draws of the prior, which "
        "ignore the data",
    }
    sections = [
        Section(
            "Verdict",
            [points([f"{'pass' if v.passed else 'fail'}: {v.text}" for v in verdicts(cells)])],
        ),
        Section(
            "Kernels", [points(kernels_in_words(cells)), table(KERNEL_HEADER, kernel_rows(cells))]
        ),
        Section("Planted bugs", [table(BUG_HEADER, bug_rows(cells)), points([blind_spots(cells)])]),
    ]
    if sbc := sbc_rows(cells):
        words = (
            "Draws of the prior are no draws of the posterior, yet their parameters are calibrated."
        )
        sections.append(
            Section("Simulation-based calibration", [text(words), table(SBC_HEADER, sbc)])
        )
    for name in cells:
        kinds = [kind for kind in captions if f"{name}-{kind}" in drawn]
        pictures = [picture(drawn[f"{name}-{kind}"], captions[kind]) for kind in kinds]
        sections.append(Section(name, [*pictures, _all_cases({name: cells[name]})]))
    return page("Are the trained kernels exact?", lead(cells), sections)


def _all_cases(cells: Cells) -> dict[str, Any]:
    header = ["procedure", "case", "must be", "rejected", "p", "quantity"]
    words = {True: "yes", False: "no"}
    rows = [
        [
            row["procedure"],
            row["case"],
            row["expected"],
            words[row["rejected"]],
            p_text(row["p"]),
            row["by"],
        ]
        for _, row in rows_of(cells)
    ]
    return table(header, rows, caption="All cases", folded=True)
