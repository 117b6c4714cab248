"""Write the tables between the ``peers`` markers of docs/peers.md from the cells under results/peers.

python scripts/summarise_peers.py           # rewrite the page
python scripts/summarise_peers.py --check   # exit 1 if the page does not agree with the files
"""

import sys
from pathlib import Path

from summarise_toy import table

from capriole.experiments._peers_goals import verdicts
from capriole.experiments._peers_judge import Cells, standings
from capriole.experiments._peers_report import lead, load_cells
from capriole.experiments._peers_tables import COST_HEADER, GOAL_HEADER, RANK_HEADER, cost_rows, goal_rows, rank_rows

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"


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
        (COST_HEADER, cost_rows(ranked, cells)),
    ):
        lines += table(header, rows)
    return "\n".join(lines).rstrip()


def main() -> int:
    """Rewrite or check docs/peers.md."""
    page = ROOT / "docs" / "peers.md"
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    new = f"{head}{BEGIN}\n{block(load_cells(ROOT / 'results' / 'peers'))}\n{END}{tail}"
    if "--check" in sys.argv:
        return int(new != text)
    page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
