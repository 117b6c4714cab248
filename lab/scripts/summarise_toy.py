"""Write the tables between the ``toy`` markers of docs/paper-toy.md from the cells under
results/paper-toy.

python lab/scripts/summarise_toy.py           # rewrite the page
python lab/scripts/summarise_toy.py --check   # exit 1 if the page does not agree with the files
"""

import sys

from _page import ROOT, rewrite, table

from capriole_lab.cells import named
from capriole_lab.toy._goals import verdicts
from capriole_lab.toy._report import (
    BURN_IN_HEADER,
    COST_HEADER,
    GOAL_HEADER,
    MODE_HEADER,
    PAPER_HEADER,
    load_cells,
)
from capriole_lab.toy._tables import (
    Cells,
    burn_in_rows,
    cost_rows,
    goal_rows,
    in_words,
    mode_rows,
    paper_rows,
)


def block(cells: Cells) -> str:
    """The text between the markers."""
    if not cells:
        return "No cells are stored under `results/paper-toy/` yet."
    first, found = next(iter(cells.values()))[0], verdicts(cells)
    words = (
        f"{sum(v.passed for v in found)} of {len(found)} goals are met ({first['preset']} preset, "
        f"{named(first['device'])}, {first['dtype']}, jax {first['versions'].get('jax', '?')}; "
        "medians over seeds with their range)."
    )
    lines = [words, "", *table(GOAL_HEADER, goal_rows(found))]
    lines += [*(f"- {in_words(target, each)}" for target, each in cells.items()), ""]
    for header, rows in (
        (PAPER_HEADER, paper_rows(cells)),
        (MODE_HEADER, mode_rows(cells)),
        (BURN_IN_HEADER, burn_in_rows(cells)),
        (COST_HEADER, cost_rows(cells)),
    ):
        lines += table(header, rows)
    return "\n".join(lines).rstrip()


def main() -> int:
    """Rewrite or check docs/paper-toy.md."""
    return rewrite("docs/paper-toy.md", "toy", block(load_cells(ROOT / "results" / "paper-toy")))


if __name__ == "__main__":
    sys.exit(main())
