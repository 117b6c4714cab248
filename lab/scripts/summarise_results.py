"""Write the tables between the ``results`` markers of docs/results-l2hmc.md from the stored files.

python lab/scripts/summarise_results.py           # rewrite the page
python lab/scripts/summarise_results.py --check   # exit 1 if the page does not agree with the files
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from _page import ROOT, rewrite

from capriole_lab.cells import named
from capriole_lab.peers._goals import verdicts
from capriole_lab.peers._judge import (
    NUTS,
    best_peer,
    cheaper_than_nuts,
    find,
    ratio,
    standings,
)
from capriole_lab.peers._report import load_cells
from capriole_lab.peers._settings import OURS
from capriole_lab.peers._tables import short
from capriole_lab.toy._goals import worst
from capriole_lab.toy._report import load_cells as load_toy
from capriole_lab.toy._tables import best_rival, healthy, label, median


def load(root: Path) -> dict[str, list[dict]]:
    """Results by target, seeds in order: of results/foundation, else of section 5.1."""
    runs: dict[str, list[dict]] = defaultdict(list)
    for path in sorted(root.glob("foundation/*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if not results["completed"]:
            raise SystemExit(f"{path} is of a run that was interrupted")
        runs[results["target"]].append(results)
    own = set(runs)
    for path in sorted(root.glob("paper-toy/*/cell.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell["target"] not in own:
            runs[cell["target"]].append(as_run(cell))
    return {
        target: sorted(found, key=lambda r: r["seed"]) for target, found in sorted(runs.items())
    }


def as_run(cell: dict) -> dict:
    """A cell with the ratios and the names of rows that a run has."""
    rows = cell["samplers"]
    learned, hmc, paper = rows["l2hmc"], rows["hmc"], rows["hmc_paper"]
    ratios = {
        "paper_ess_per_step_vs_hmc": learned["paper_ess_per_step"] / paper["paper_ess_per_step"],
        "bulk_ess_per_gradient_vs_hmc": learned["bulk_ess_per_gradient"]
        / hmc["bulk_ess_per_gradient"],
        "bulk_ess_sq_per_gradient_vs_hmc": learned["bulk_ess_sq_per_gradient"]
        / hmc["bulk_ess_sq_per_gradient"],
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
        "| target | seeds | M (HMC's) | paper's ESS/step | over HMC | bulk ESS of x/gradient | "
        "over HMC | bulk ESS of x²/gradient | over HMC | max \\|z\\| | training s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for target, found in runs.items():
        rows = [r["samplers"]["l2hmc"] for r in found]
        z = [
            max(row["max_abs_z_mean"], row["max_abs_z_var"])
            for row in rows
            if row["max_abs_z_mean"] is not None
        ]
        lengths = f"{rows[0]['num_leapfrogs']} ({found[0]['samplers']['hmc']['num_leapfrogs']})"
        cells = [target, str(len(found)), lengths]
        cells.append(spread([row["paper_ess_per_step"] for row in rows], ".2g"))
        cells.append(spread([r["ratios"]["paper_ess_per_step_vs_hmc"] for r in found], ".3g") + "x")
        for key in ("bulk_ess_per_gradient", "bulk_ess_sq_per_gradient"):
            cells.append(spread([row[key] for row in rows], ".2g"))
            cells.append(spread([r["ratios"][f"{key}_vs_hmc"] for r in found], ".3g") + "x")
        cells.append(f"{max(z):.1f}" if z else "-")
        cells.append(
            spread(
                [r["training"]["seconds"] + r["training"]["compile_seconds"] for r in found], ".0f"
            )
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def mode_table(runs: dict[str, list[dict]]) -> list[str]:
    """One line per target with modes: weights from a one-mode start."""
    lines = [
        "| target, all chains started in mode 0 | weight of mode 0: exact | L2HMC, by seed | HMC, "
        "by seed | mode switches/step |",
        "|---|---|---|---|---|",
    ]
    for target, found in runs.items():
        rows = [r["samplers"].get("l2hmc_one_mode") for r in found]
        if not all(rows):
            continue
        weights = [
            f"{row['mode_weights'][0]:.3f} ± {row['mode_weights_se'][0]:.3f}" for row in rows
        ]
        plain = [f"{r['samplers']['hmc_one_mode']['mode_weights'][0]:.3f}" for r in found]
        switches = spread([row["mode_switches_per_step"] for row in rows], ".2g")
        exact = f"{rows[0]['mode_weights_exact'][0]:.3f}"
        lines.append(
            f"| {target} | {exact} | {', '.join(weights)} | {', '.join(plain)} | {switches} |"
        )
    return lines


def block(runs: dict[str, list[dict]]) -> str:
    """The text between the markers."""
    first = next(iter(runs.values()))[0]
    v = first["versions"]
    intro = (
        "The learned leapfrog, trained with `capriole.train`, against HMC. Measured with `make "
        f"results` (laptop preset; median and range over seeds; {named(first['device'])}, several "
        f"jobs at a time; {first['dtype']}, jax {v['jax']}, Python {v['python']}; files under "
        "`results/`). HMC has the M in brackets, the paper's 10 where the paper has the target, "
        "and the best step size of a two-stage grid, chosen anew for each measure; training "
        "seconds include compilation and were taken on a busy machine."
    )
    return "\n".join([intro, "", *main_table(runs), "", *mode_table(runs)])


def against_rivals(root: Path) -> str:
    """L2HMC's ESS per gradient over that of the best other sampler of section 5.1."""
    alone, others = [], []
    for target, cells in load_toy(root / "paper-toy").items():
        own, rival = median(cells, lambda c: worst(c, "l2hmc")), best_rival(cells)
        if own is None or not healthy(cells, "l2hmc"):
            others.append(f"{target}: does not converge")
        elif rival is None:
            alone.append(target)
        else:
            theirs = median(cells, lambda c, name=rival: worst(c, name))
            others.append(f"{target} {own / theirs:.2g} ({label(rival)})")
    return (
        "HMC with ten leapfrogs is the paper's rival and no strong one. Against the best of NUTS, "
        "ChEES-HMC, HMC at its best length, look-ahead HMC and A-NICE-MC, ESS per gradient (the "
        f"smaller of x and x²) is in the ratio {', '.join(others)}; on {', '.join(alone)} L2HMC "
        "alone converges ([paper-toy.md](paper-toy.md))."
    )


def against_peers(root: Path) -> list[str]:
    """How `capriole.fit` fares against the peers, from the cells under results/peers."""
    cells = load_cells(root / "peers")
    if not cells:
        return []
    ranked = {name: standings(found) for name, found in cells.items()}
    goals = verdicts(ranked)
    ours = [cell for found in cells.values() for cell in found if cell["sampler"] == OURS]
    kernels = [cell["settings"]["chosen"] for cell in ours]
    passed = sum(find(found, OURS).passed for found in ranked.values())
    alone = [short(name) for name, found in ranked.items() if best_peer(found, "gradients") is None]
    ratios = {
        unit: [ratio(found, unit) for found in ranked.values() if best_peer(found, unit)]
        for unit in ("gradients", "seconds")
    }
    nuts = [f for f in ranked.values() if any(s.passed for s in f if s.sampler in NUTS)]
    sooner = sum(bool(cheaper_than_nuts(found)) for found in nuts)
    each = ratios["gradients"]
    return [
        "`capriole.fit` against NUTS (BlackJAX, diagonal and dense metric; NumPyro; nutpie), "
        f"ChEES-HMC, MCLMC and flowMC on {len(cells)} targets, three seeds; samplers whose draws "
        "are wrong or have not mixed are not ranked ([peers.md](peers.md)):",
        "",
        f"- It passes on {passed} of {len(cells)} targets, on {len(alone)} of them alone "
        f"({'; '.join(alone)}).",
        f"- Effective draws per gradient: on the {len(each)} targets where another sampler passes "
        f"{min(each):.2g} to "
        f"{max(each):.2g} times those of the best one, median {statistics.median(each):.2g}.",
        "- Effective draws per second: at least twice the best one's on "
        f"{sum(r >= 2 for r in ratios['seconds'])} of {len(ratios['seconds'])}, at worst "
        f"{min(ratios['seconds']):.2g} times. 10,000 effective draws, with the search and "
        f"compilation, take less time than BlackJAX's NUTS on {sooner} of the {len(nuts)} where "
        "that passes. (Seconds are of two machines and partly of shared cores: see there.)",
        "- The kernel that was chosen has networks in "
        f"{sum('network' in name for name in kernels)} of {len(kernels)} runs: exact rotations in "
        "white coordinates, transport maps and jumps between modes come first, which need next to "
        "no training.",
        f"- {sum(v.passed for v in goals)} of the {len(goals)} goals set beforehand are met.",
    ]


def main() -> int:
    """Rewrite or check docs/results-l2hmc.md."""
    root = ROOT / "results"
    parts = [block(load(root)), against_rivals(root), "\n".join(against_peers(root))]
    return rewrite("docs/results-l2hmc.md", "results", "\n\n".join(parts))


if __name__ == "__main__":
    sys.exit(main())
