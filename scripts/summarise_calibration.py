"""Write the tables between the ``calibration`` markers of docs/calibration.md from the cells under results/calibration.

python scripts/summarise_calibration.py           # rewrite the page, draw the figures beside the cells
python scripts/summarise_calibration.py --check   # exit 1 if the page does not agree with the files
"""

import sys
from pathlib import Path

from summarise_toy import table

from capriole.experiments._calibrate_report import figures, lead, load_cells
from capriole.experiments._calibrate_tables import (
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
from capriole.report import save

ROOT = Path(__file__).parent.parent
CELLS = ROOT / "results" / "calibration"
BEGIN, END = "<!-- calibration:begin -->", "<!-- calibration:end -->"


def block(cells: Cells) -> str:
    """The text between the markers."""
    if not cells:
        return "No cells are stored under `results/calibration/` yet."
    lines = [lead(cells), "", *(f"- {'pass' if v.passed else '**fail**'}: {v.text}" for v in verdicts(cells)), ""]
    lines[-1:] = [f"- not judged, what single procedures cannot see: {blind_spots(cells)}", ""]
    lines += [*(f"- {words}" for words in kernels_in_words(cells)), ""]
    lines += table(KERNEL_HEADER, kernel_rows(cells))
    lines += table(BUG_HEADER, bug_rows(cells))
    lines += table(SBC_HEADER, sbc_rows(cells))
    drawn = [name for name in cells if (CELLS / f"{name}-ranks.png").exists()]
    for name in drawn:
        lines += [f"![Distribution functions of ranks, {name}](../results/calibration/{name}-ranks.png)", ""]
    return "\n".join(lines).rstrip()


def main() -> int:
    """Rewrite or check docs/calibration.md."""
    page = ROOT / "docs" / "calibration.md"
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    cells = load_cells(CELLS)
    if "--check" not in sys.argv:
        for name, figure in figures(cells).items():
            save(figure, CELLS / f"{name}.png")
    new = f"{head}{BEGIN}\n{block(cells)}\n{END}{tail}"
    if "--check" in sys.argv:
        return int(new != text)
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
