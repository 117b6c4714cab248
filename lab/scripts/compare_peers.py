"""Compare the cells of `capriole.fit` in two folders of ``capriole-lab bench peers``.

python lab/scripts/compare_peers.py results/peers results/ladder [--out results/ladder/README.md]
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from _page import table

from capriole_lab.cells import CELL
from capriole_lab.peers._settings import OURS
from capriole_lab.peers._tables import short

RATES = ("bulk_ess_per_gradient", "bulk_ess_sq_per_gradient")


def cells(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Cells of `capriole.fit` in a folder, by target and seed."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.rglob(CELL)]
    return {(c["target"], c["seed"]): c for c in found if c["sampler"] == OURS}


def rate(cell: dict[str, Any]) -> float:
    """Effective draws per gradient, of x or of x^2, in the worst dimension."""
    return min(cell[name] for name in RATES)


def preparation(cell: dict[str, Any]) -> int:
    """Gradients before the first draw."""
    return int(cell["preparation"]["num_gradients"])


def summary(before: dict[tuple[str, int], Any], after: dict[tuple[str, int], Any]) -> str:
    """A page: what is the same, and a table of what is not."""
    keys = sorted(before.keys() & after.keys())
    rates = {key: rate(after[key]) / rate(before[key]) for key in keys}
    spent = {key: preparation(after[key]) / preparation(before[key]) for key in keys}
    passed = sum(not after[key]["problems"] for key in keys)
    lines = [
        f"{len(keys)} cells, {len({target for target, _ in keys})} targets; {passed} pass.",
        f"Effective draws per gradient, after over before: median {median(rates.values()):.2f}, "
        f"lowest {min(rates.values()):.2f}, highest {max(rates.values()):.2f}.",
        f"Gradients before the first draw: median {median(spent.values()):.2f}, lowest "
        f"{min(spent.values()):.2f}, highest {max(spent.values()):.2f}.",
        "",
        "Cells in which either differs by more than 1 %:",
        "",
    ]
    rows = [
        [
            short(target),
            str(seed),
            f"{rate(before[target, seed]):.3g}",
            f"{rate(after[target, seed]):.3g}",
            f"{preparation(before[target, seed]):.2g}",
            f"{preparation(after[target, seed]):.2g}",
            chosen(before[target, seed]),
            chosen(after[target, seed]),
        ]
        for target, seed in keys
        if abs(rates[target, seed] - 1) > 0.01 or abs(spent[target, seed] - 1) > 0.01
    ]
    header = ["target", "seed", "rate", "now", "gradients before", "now", "chosen", "now"]
    return "\n".join([*lines, *table(header, rows)]).rstrip() + "\n"


def chosen(cell: dict[str, Any]) -> str:
    """The name of the kernel that was chosen."""
    return str(cell["settings"].get("chosen", ""))


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    page = summary(cells(options.before), cells(options.after))
    if options.out is None:
        print(page)
    else:
        options.out.write_text(f"# `capriole.fit` in two versions\n\n{page}", encoding="utf-8")


if __name__ == "__main__":
    main()
