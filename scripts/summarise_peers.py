"""Write the tables between the ``peers`` markers of docs/peers.md from the cells under results/peers.

python scripts/summarise_peers.py           # rewrite the page
python scripts/summarise_peers.py --check   # exit 1 if the page does not agree with the files
"""

import sys

from _page import ROOT, rewrite, table

from capriole.experiments._peers_goals import verdicts
from capriole.experiments._peers_judge import Cells, standings
from capriole.experiments._peers_report import lead, load_cells
from capriole.experiments._peers_tables import COST_HEADER, GOAL_HEADER, RANK_HEADER, cost_rows, goal_rows, rank_rows


def block(cells: Cells) -> str:
    """The text between the markers."""
    if not cells:
        return "No cells are stored under `results/peers/` yet."
    ranked = {name: standings(found) for name, found in cells.items()}
    found = verdicts(ranked)
    lines = [f"{sum(v.passed for v in found)} of {len(found)} goals are met. {lead(cells)}", ""]
    for header, rows in (
        (GOAL_HEADER, goal_rows(found)),
        (RANK_HEADER, rank_rows(ranked)),
        (COST_HEADER, cost_rows(ranked)),
    ):
        lines += table(header, rows)
    return "\n".join(lines).rstrip()


def main() -> int:
    """Rewrite or check docs/peers.md."""
    return rewrite("docs/peers.md", "peers", block(load_cells(ROOT / "results" / "peers")))


if __name__ == "__main__":
    sys.exit(main())
