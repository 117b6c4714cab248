"""Write the tables between the ``results`` markers of README.md from the files under results.

python scripts/summarise_results.py           # rewrite README.md
python scripts/summarise_results.py --check   # exit 1 if README.md does not agree with the files
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from _page import ROOT, rewrite

from capriole.experiments._peers_goals import verdicts
from capriole.experiments._peers_judge import standings
from capriole.experiments._peers_report import load_cells
from capriole.experiments._peers_tables import goal_rows


def load(root: Path) -> dict[str, list[dict]]:
    """Results by target, seeds in order: runs under results/foundation, and cells of section 5.1 for other targets."""
    runs: dict[str, list[dict]] = defaultdict(list)
    for path in sorted(root.glob("foundation/*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        runs[results["target"]].append(results)
    own = set(runs)
    for path in sorted(root.glob("paper-toy/*/cell.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell["target"] not in own:
            runs[cell["target"]].append(as_run(cell))
    return {target: sorted(found, key=lambda r: r["seed"]) for target, found in sorted(runs.items())}


def as_run(cell: dict) -> dict:
    """A cell with the ratios and the names of rows that a run has."""
    rows = cell["samplers"]
    learned, hmc, paper = rows["l2hmc"], rows["hmc"], rows["hmc_paper"]
    ratios = {
        "paper_ess_per_step_vs_hmc": learned["paper_ess_per_step"] / paper["paper_ess_per_step"],
        "bulk_ess_per_gradient_vs_hmc": learned["bulk_ess_per_gradient"] / hmc["bulk_ess_per_gradient"],
        "bulk_ess_sq_per_gradient_vs_hmc": learned["bulk_ess_sq_per_gradient"] / hmc["bulk_ess_sq_per_gradient"],
    }
    renamed = {name.replace(" mode 0", "_one_mode"): row for name, row in rows.items()}
    return cell | {"ratios": ratios, "samplers": renamed}


def spread(values: list[float], form: str) -> str:
    """Median and range, or the value alone."""
    if len(values) == 1:
        return format(values[0], form)
    low, high = format(min(values), form), format(max(values), form)
    return f"{format(statistics.median(values), form)} ({low} to {high})"


def main_table(runs: dict[str, list[dict]]) -> list[str]:
    """One line per target: L2HMC against HMC at the same number of leapfrogs."""
    lines = [
        "| target | seeds | M (HMC's) | paper's ESS/step | over HMC | bulk ESS of x/gradient | over HMC "
        "| bulk ESS of x²/gradient | over HMC | max \\|z\\| | training s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for target, found in runs.items():
        rows = [r["samplers"]["l2hmc"] for r in found]
        z = [max(row["max_abs_z_mean"], row["max_abs_z_var"]) for row in rows if row["max_abs_z_mean"] is not None]
        lengths = f"{rows[0]['num_leapfrogs']} ({found[0]['samplers']['hmc']['num_leapfrogs']})"
        cells = [target, str(len(found)), lengths]
        cells.append(spread([row["paper_ess_per_step"] for row in rows], ".2g"))
        cells.append(spread([r["ratios"]["paper_ess_per_step_vs_hmc"] for r in found], ".3g") + "x")
        for key in ("bulk_ess_per_gradient", "bulk_ess_sq_per_gradient"):
            cells.append(spread([row[key] for row in rows], ".2g"))
            cells.append(spread([r["ratios"][f"{key}_vs_hmc"] for r in found], ".3g") + "x")
        cells.append(f"{max(z):.1f}" if z else "-")
        cells.append(spread([r["training"]["seconds"] + r["training"]["compile_seconds"] for r in found], ".0f"))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def mode_table(runs: dict[str, list[dict]]) -> list[str]:
    """One line per target with modes: weights from a one-mode start."""
    lines = [
        "| target, all chains started in mode 0 | weight of mode 0: exact | L2HMC, by seed | HMC, by seed "
        "| mode switches/step |",
        "|---|---|---|---|---|",
    ]
    for target, found in runs.items():
        rows = [r["samplers"].get("l2hmc_one_mode") for r in found]
        if not all(rows):
            continue
        weights = [f"{row['mode_weights'][0]:.3f} ± {row['mode_weights_se'][0]:.3f}" for row in rows]
        plain = [f"{r['samplers']['hmc_one_mode']['mode_weights'][0]:.3f}" for r in found]
        switches = spread([row["mode_switches_per_step"] for row in rows], ".2g")
        exact = f"{rows[0]['mode_weights_exact'][0]:.3f}"
        lines.append(f"| {target} | {exact} | {', '.join(weights)} | {', '.join(plain)} | {switches} |")
    return lines


def block(runs: dict[str, list[dict]]) -> str:
    """The text between the markers."""
    first = next(iter(runs.values()))[0]
    v = first["versions"]
    intro = (
        f"Measured with `make results` (laptop preset; median and range over seeds; {first['device']}, several jobs at "
        f"a time; {first['dtype']}, jax {v['jax']}, Python {v['python']}; files under `results/`). "
        "HMC has the M in brackets, the paper's 10 where the paper has the target, and the best step size of a "
        "two-stage grid, chosen anew for each measure; training seconds include compilation and were taken on a busy "
        "machine. NUTS and the other rivals: [docs/paper-toy.md](docs/paper-toy.md)."
    )
    return "\n".join([intro, "", *main_table(runs), "", *mode_table(runs)])


def against_peers(root: Path) -> list[str]:
    """How `capriole.fit` fares against the peers, from the cells under results/peers."""
    cells = load_cells(root / "peers")
    if not cells:
        return []
    rows = goal_rows(verdicts({name: standings(found) for name, found in cells.items()}))
    head = (
        "`capriole.fit` against NUTS (BlackJAX, diagonal and dense metric; NumPyro; nutpie), ChEES-HMC, MCLMC and "
        "flowMC, wrong or unmixed samplers never "
        f"ranked, on {len(cells)} targets, one to three seeds ([docs/peers.md](docs/peers.md)):"
    )
    return [head, "", *(f"- {goal}: {found}" for goal, _, found, *_ in rows)]


def main() -> int:
    """Rewrite or check README.md."""
    peers = "\n".join(against_peers(ROOT / "results"))
    return rewrite("README.md", "results", f"{block(load(ROOT / 'results'))}\n\n{peers}")


if __name__ == "__main__":
    sys.exit(main())
