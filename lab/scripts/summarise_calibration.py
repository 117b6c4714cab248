"""Write the tables between the ``calibration`` markers of docs/calibration.md from the cells under
results/calibration.

python lab/scripts/summarise_calibration.py           # rewrite the page, draw the figures
python lab/scripts/summarise_calibration.py --check   # exit 1 if it does not agree with the files
"""

import sys

from _page import ROOT, rewrite, table

from capriole_lab.calibration.report._report import figures, lead, load_cells
from capriole_lab.calibration.report._tables import (
    BUG_HEADER,
    KERNEL_HEADER,
    SBC_HEADER,
    Cells,
    blind_spots,
    bug_rows,
    kernel_rows,
    kernels_in_words,
    sbc_rows,
    verdicts,
)
from capriole_lab.report import save

CELLS = ROOT / "results" / "calibration"


def block(cells: Cells) -> str:
    """The text between the markers."""
    if not cells:
        return "No cells are stored under `results/calibration/` yet."
    lines = [
        lead(cells),
        "",
        *(f"- {'pass' if v.passed else '**fail**'}: {v.text}" for v in verdicts(cells)),
        "",
    ]
    lines[-1:] = [f"- not judged, what single procedures cannot see: {blind_spots(cells)}", ""]
    lines += [*(f"- {words}" for words in kernels_in_words(cells)), ""]
    lines += table(KERNEL_HEADER, kernel_rows(cells))
    lines += table(BUG_HEADER, bug_rows(cells))
    lines += table(SBC_HEADER, sbc_rows(cells))
    drawn = [name for name in cells if (CELLS / f"{name}-ranks.png").exists()]
    for name in drawn:
        lines += [
            f"![Distribution functions of ranks, {name}](../results/calibration/{name}-ranks.png)",
            "",
        ]
    return "\n".join(lines).rstrip()


def main() -> int:
    """Rewrite or check docs/calibration.md."""
    cells = load_cells(CELLS)
    if "--check" not in sys.argv:
        for name, figure in figures(cells).items():
            save(figure, CELLS / f"{name}.png")
    return rewrite("docs/calibration.md", "calibration", block(cells))


if __name__ == "__main__":
    sys.exit(main())
