"""Write the tables between the ``peers`` and ``worth`` markers of docs/peers.md from the cells
under results/peers.

python lab/scripts/summarise_peers.py           # rewrite the page, draw the figure beside the cells
python lab/scripts/summarise_peers.py --check   # exit 1 if the page does not agree with the files
"""

import sys
from statistics import median

from _page import ROOT, rewrite, table

from capriole_lab.peers._goals import Table, verdicts
from capriole_lab.peers._judge import Cells, find, standings
from capriole_lab.peers._report import lead, load_cells, rates_figure
from capriole_lab.peers._settings import OURS
from capriole_lab.peers._tables import (
    COST_HEADER,
    GOAL_HEADER,
    RANK_HEADER,
    cost_rows,
    goal_rows,
    label,
    rank_rows,
    short,
)
from capriole_lab.report import save

CELLS = ROOT / "results" / "peers"
FIGURE = "![Effective draws per gradient and per second](../results/peers/rates.png)"


def block(cells: Cells, ranked: Table) -> str:
    """The text between the markers."""
    if not cells:
        return "No cells are stored under `results/peers/` yet."
    found = verdicts(ranked)
    lines = [f"{sum(v.passed for v in found)} of {len(found)} goals are met. {lead(cells)}", ""]
    lines += [*table(GOAL_HEADER, goal_rows(found)), FIGURE, ""]
    for header, rows in (
        (RANK_HEADER, rank_rows(ranked)),
        (COST_HEADER, cost_rows(ranked)),
        (["target", "sampler", "seeds passed", "what the others lacked"], failures(ranked)),
    ):
        lines += table(header, rows)
    return "\n".join(lines).rstrip()


def failures(ranked: Table) -> list[list[str]]:
    """Whose seeds did not all pass, and what those lacked that did not."""
    return [
        [short(target), label(s.sampler), f"{s.seeds_passed} of {s.seeds}", "; ".join(s.reasons)]
        for target, found in ranked.items()
        for s in found
        if s.reasons
    ]


NUTS = ("nuts", "nuts-dense", "numpyro-nuts", "nutpie")
"""Samplers that are NUTS, of three libraries."""
DRAWS = (1_000, 10_000, 100_000)
"""Effective draws for which total costs are compared."""


def worth(ranked: Table) -> str:
    """Total cost of `capriole.fit` over that of the cheapest NUTS that passes, as a table."""
    rows = []
    for draws in DRAWS:
        for unit in ("gradients", "seconds"):
            ratios = {}
            for target, found in ranked.items():
                ours = find(found, OURS)
                rivals = [s.total(unit, draws) for s in found if s.sampler in NUTS]
                known = [total for total in rivals if total is not None]
                own = None if ours is None else ours.total(unit, draws)
                if own is not None and known:
                    ratios[target] = own / min(known)
            low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
            cheaper = sum(ratio < 1 for ratio in ratios.values())
            ends = [f"{ratios[name]:.2g} ({short(name)})" for name in (low, high)]
            middle = f"{median(ratios.values()):.2g}"
            share = f"{cheaper} of {len(ratios)}"
            rows.append([f"{draws:,}", unit, middle, share, *ends])
    header = ["n", "unit", "median", "`fit` cheaper on", "lowest", "highest"]
    return "\n".join(table(header, rows)).rstrip()


def main() -> int:
    """Rewrite or check docs/peers.md."""
    cells = load_cells(CELLS)
    ranked = {name: standings(found) for name, found in cells.items()}
    if cells and "--check" not in sys.argv:
        save(rates_figure(ranked), CELLS / "rates.png")
    wrong = rewrite("docs/peers.md", "peers", block(cells, ranked))
    return rewrite("docs/peers.md", "worth", worth(ranked)) or wrong


if __name__ == "__main__":
    sys.exit(main())
