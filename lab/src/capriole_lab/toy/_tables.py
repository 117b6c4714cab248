"""Tables of section 5.1 from stored cells: medians over seeds with their range."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from ..report import LABELS
from ._goals import CellRecord, Verdict, get, ratio, worst

type Cells = dict[str, list[CellRecord]]
type Rows = list[list[str]]

PAPER = {
    "icg": ("0.783", "0.0165 to 0.021", "36.6"),
    "scg": ("0.497", "0.00469", "106.2"),
    "mog": ("0.0324", "no measurable mixing", ">> 1"),
    "rough-well": ("0.625", "0.116", "5.4"),
}
"""ESS per step of L2HMC and of HMC, and their ratio, as published (final version of the paper)."""

RIVALS = ("hmc", "hmc_best", "nuts", "nuts-dense", "chees", "lookahead", "nice")


def spread(values: Sequence[float | None], form: str = ".3g") -> str:
    """Median and range over seeds, the value alone for one seed, - if one is missing."""
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return "-"
    if len(known) == 1:
        return format(known[0], form)
    return f"{statistics.median(known):{form}} ({min(known):{form}} to {max(known):{form}})"


def median(cells: list[CellRecord], figure: Callable[[CellRecord], float | None]) -> float | None:
    """Median over seeds; None if a value is missing."""
    values = [figure(cell) for cell in cells]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def label(name: str) -> str:
    """A sampler's name in words."""
    base, _, start = name.partition(" ")
    return LABELS.get(base, base) + (f", from {start}" if start else "")


def goal_rows(found: list[Verdict]) -> Rows:
    """Target, goal, bound, measured median and range, seeds that meet it, verdict."""
    return [
        [
            v.goal.target,
            v.goal.text,
            f"{'≥' if v.goal.at_least else '≤'} {v.goal.bound:g}",
            spread(v.values),
            f"{v.seeds_passed} of {len(v.values)}",
            "pass" if v.passed else "fail",
        ]
        for v in found
    ]


def paper_rows(cells: Cells) -> Rows:
    """Figure 1c: ESS per Metropolis-Hastings step of L2HMC and HMC, here and as published."""
    rows = []
    for target, found in cells.items():
        learned = [get(c, "l2hmc", "paper_ess_per_step") for c in found]
        plain = [get(c, "hmc_paper", "paper_ess_per_step") for c in found]
        over = [ratio(a, b) for a, b in zip(learned, plain, strict=True)]
        published = PAPER.get(target, ("-", "-", "-"))
        m = " / ".join(
            str(found[0]["samplers"][name]["num_leapfrogs"]) for name in ("l2hmc", "hmc_paper")
        )
        rows.append(
            [
                target,
                m,
                spread(learned),
                published[0],
                spread(plain),
                published[1],
                spread(over),
                published[2],
            ]
        )
    return rows


def sampler_rows(cells: list[CellRecord]) -> Rows:
    """Every sampler of one target from exact starts (and the learned one from dispersed starts)."""
    rows = []
    names = [n for n in cells[0]["samplers"] if " mode " not in n]
    columns = (
        ("acceptance_rate", ".2f"),
        ("paper_ess_per_step", ".2g"),
        ("bulk_ess_per_gradient", ".2g"),
        ("bulk_ess_sq_per_gradient", ".2g"),
        ("ess_per_second", ".2g"),
        ("rhat_max", ".3f"),
        ("max_abs_z_mean", ".1f"),
        ("max_abs_z_var", ".1f"),
    )
    for name in names:
        values = [
            spread([get(cell, name, field) for cell in cells], form) for field, form in columns
        ]
        rows.append([label(name), leapfrogs(cells, name), *values])
    return rows


def leapfrogs(cells: list[CellRecord], name: str) -> str:
    """Gradients per step and chain, which for NUTS and ChEES differ from step to step."""
    costs = []
    for cell in cells:
        row = cell["samplers"].get(name)
        costs.append(row["num_gradients"] / (row["num_chains"] * row["num_steps"]) if row else None)
    return spread(costs)


def mode_rows(cells: Cells) -> Rows:
    """Weight of mode 0 from one-mode starts, by seed; R-hat of the modes; switches."""
    rows = []
    for target, found in cells.items():
        for name in found[0]["samplers"]:
            chosen = [cell["samplers"][name] for cell in found if name in cell["samplers"]]
            if " mode " not in name or not all(row["mode_weights"] for row in chosen):
                continue
            weights = [
                f"{r['mode_weights'][0]:.3f} ± {_or_dash(r['mode_weights_se'][0], '.3f')}"
                for r in chosen
            ]
            exact = f"{chosen[0]['mode_weights_exact'][0]:.3f}"
            together = [cell["mode_rhat"].get(name.partition(" ")[0]) for cell in found]
            rhat = "stuck" if None in together else spread(together, ".4g")
            switches = spread([r["mode_switches_per_step"] for r in chosen], ".2g")
            rows.append([target, label(name), exact, ", ".join(weights), rhat, switches])
    return rows


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def burn_in_rows(cells: Cells) -> Rows:
    """Gradients until chains from far starts arrive; medians over chains."""
    rows = []
    names = {
        "l2hmc": "L2HMC",
        "l2hmc_burn_in": "L2HMC, trained with the burn-in term",
        "hmc": "HMC tuned at M = 10",
    }
    for target, found in cells.items():
        chosen = [cell["burn_in"] for cell in found if cell.get("burn_in")]
        if not chosen:
            continue
        for name, words in names.items():
            each = [entry["samplers"][name] for entry in chosen]
            medians = [e["median_gradients"] for e in each]
            # A median that is not finite is stored as null: more than half of the chains never
            # arrived.
            shown = "more than half never" if None in medians else spread(medians)
            rows.append(
                [
                    target,
                    words,
                    shown,
                    spread([100 * e["share_arrived"] for e in each], ".0f") + " %",
                ]
            )
    return rows


def cost_rows(cells: Cells) -> Rows:
    """Training in seconds and gradients, when it has paid for itself, seconds of the cell."""
    rows = []
    for target, found in cells.items():
        seconds = [_total(cell["training"]) for cell in found]
        gradients = [float(cell["training"]["num_gradients"]) for cell in found]
        nice = [_total(cell["nice_training"]) for cell in found if "nice_training" in cell]
        cost = [target, spread(seconds, ".0f"), spread(gradients, ".2g"), pays_after(found)]
        whole = [
            spread([cell[field] for cell in found], ".0f") for field in ("seconds", "cpu_seconds")
        ]
        rows.append([*cost, spread(nice, ".0f"), *whole])
    return rows


def _total(training: dict[str, Any]) -> float:
    return training["seconds"] + training["compile_seconds"]


def pays_after(cells: list[CellRecord]) -> str:
    """Effective draws n with training + n / own rate = n / rate of the best rival that passes."""
    rival, own = best_rival(cells), median(cells, lambda c: worst(c, "l2hmc"))
    spent = median(cells, lambda c: float(c["training"]["num_gradients"]))
    if not healthy(cells, "l2hmc") or own is None or spent is None:
        return "never: L2HMC fails"
    if rival is None:
        return "at once: no other passes"
    other = median(cells, lambda c: worst(c, rival))
    if other is None or other >= own:
        return f"never: {label(rival)} is faster"
    return f"{spent / (1 / other - 1 / own):.2g}"


def healthy(cells: list[CellRecord], name: str) -> bool:
    """Median R-hat at most 1.05, exact moments missed by less than 5 standard errors."""
    rhat = median(cells, lambda c: get(c, name, "rhat_max"))
    misses = [
        median(cells, lambda c, z=z: get(c, name, z)) for z in ("max_abs_z_mean", "max_abs_z_var")
    ]
    return rhat is not None and rhat <= 1.05 and all(z is None or z < 5 for z in misses)


def best_rival(cells: list[CellRecord]) -> str | None:
    """The healthy baseline with the best median ESS per gradient; None if none is healthy."""
    rates = {n: median(cells, lambda c, n=n: worst(c, n)) for n in RIVALS if healthy(cells, n)}
    known = {name: rate for name, rate in rates.items() if rate is not None and math.isfinite(rate)}
    return max(known, key=lambda name: known[name]) if known else None


def in_words(target: str, cells: list[CellRecord]) -> str:
    """Who wins on a target, per gradient in the worst dimension, as a sentence."""
    own, rival = median(cells, lambda c: worst(c, "l2hmc")), best_rival(cells)
    if own is None or not healthy(cells, "l2hmc"):
        rhat = spread([get(c, "l2hmc", "rhat_max") for c in cells], ".3f")
        return f"{target}: L2HMC did not converge (R-hat {rhat}); its efficiency is no speed."
    if rival is None:
        alone = f"{target}: L2HMC is the only sampler that converges"
        return f"{alone}, with {own:.2g} effective draws per gradient."
    other: Any = median(cells, lambda c: worst(c, rival))
    verb, factor = ("wins", own / other) if own >= other else ("loses", other / own)
    return (
        f"{target}: L2HMC {verb} by a factor of {factor:.3g}: {own:.2g} effective draws per "
        f"gradient against {other:.2g} of the best other sampler that converges, {label(rival)}."
    )
