"""Write the tables between the ``dlgm`` markers of docs/paper-dlgm.md from the files under
results/paper-dlgm.

python lab/scripts/summarise_dlgm.py           # rewrite the page
python lab/scripts/summarise_dlgm.py --check   # exit 1 if the page does not agree with the files
"""

import json
import sys

from _page import ROOT, rewrite, table

from capriole_lab.cells import named
from capriole_lab.dlgm._stages import INPAINTING_ROWS
from capriole_lab.dlgm.measures._burn_in import BURN_IN_HEADER, burn_in_row
from capriole_lab.dlgm.measures._sampling import SAMPLERS, SAMPLING_HEADER, sampling_row
from capriole_lab.dlgm.measures._true_classes import (
    COUNTS_HEADER,
    TRUE_HEADER,
    count_rows,
    true_rows,
)
from capriole_lab.dlgm.report._figures import LABELS
from capriole_lab.dlgm.report._goals import RULE, verdicts
from capriole_lab.dlgm.report._report import INPAINTING_FIGURES
from capriole_lab.dlgm.report._words import mean_and_se, plus_minus

LIKELIHOOD_HEADER = [
    "model", "seed", "epoch kept", "decoder gradients", "seconds", "test log p(x)",
    "train log p(x)", "sandwich gap",
]  # fmt: skip
STEPS = ("step-256.json", "step-64.json", "step-25.json")


def likelihood_rows(models):
    """One row per evaluated model."""
    rows = []
    for m in models:
        if e := m["evaluation"]:
            last, gap = m["curve"][-1], e["sandwich"]
            values = [
                plus_minus(e[part]["log_likelihood"], e[part]["se"]) for part in ("test", "train")
            ]
            cost = [f"{last['num_gradients']:.3g}", f"{last['seconds']:.0f}"]
            kept = f"{m['epoch']} of {m['epochs']}"
            shown = plus_minus(gap["gap"], gap["gap_se"])
            rows.append([LABELS[m["scheme"]], str(m["seed"]), kept, *cost, *values, shown])
    return rows


def inpainting_rows(models):
    """One row per model and method."""
    return [
        [
            LABELS[m["scheme"]],
            str(m["seed"]),
            shown,
            *(mean_and_se(stored[f]) if f in stored else "-" for f in INPAINTING_FIGURES),
        ]
        for m in models
        for method, shown in INPAINTING_ROWS.items()
        if (stored := (m["inpainting"] or {}).get(method))
    ]


def speed(steps):
    """Words on the training step's speed, and where its time goes."""
    lines = []
    for step in steps:
        rates, ratios, batch = step["rates"], step["ratios"], step["settings"]["batch"]
        useful, machine = (
            f"{rates[name] / 1e9:.0f} GFLOP/s" for name in ("l2hmc_useful_flops", "matmul_flops")
        )
        shapes = " and ".join(f"{share:.2f} ({shape})" for shape, share in step["products"].items())
        lines += [
            f"A training step of L2HMC-DLGM on {batch} images does {useful} of useful work, "
            f"{ratios['l2hmc_useful_flops_over_matmul']:.2f} of the matrix product's {machine} in "
            f"the same run (goal: at least 0.5), and takes {ratios['l2hmc_over_hmc_seconds']:.1f} "
            "times as long as one of HMC-DLGM. Single products of the decoder's two larger "
            f"matrices reach {shapes} of that rate.",
            "",
        ]
    names = [f"ms, {step['settings']['batch']} images" for step in steps]
    rows = [
        [part, *(f"{step['profile'][part]:.2f}" for step in steps)] for part in steps[0]["profile"]
    ]
    return [*lines, *table(["part of a step", *names], rows)]


def block(folder):
    """The text between the markers."""
    if not (folder / "results.json").exists():
        return "No results are stored under `results/paper-dlgm/` yet."
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    models, found = results["models"], verdicts(results)
    first, num_seeds = models[0], len({m["seed"] for m in models})
    met = sum(v.passed for v in found)
    seeds = f"{num_seeds} seed" if num_seeds == 1 else f"{num_seeds} seeds"
    words = (
        f"{met} of {len(found)} goals are met ({seeds}, {named(first['device'])}, {first['cores']} "
        f"cores, jax {first['versions']['jax']}). {RULE}"
    )
    rows = [[v.goal, v.bound, v.measured, "met" if v.passed else "**not met**"] for v in found]
    lines = [words, "", *table(["goal", "bound", "measured", "verdict"], rows)]
    lines += table(LIKELIHOOD_HEADER, likelihood_rows(models))
    for m in models:
        if m["sampling"]:
            rows = [
                sampling_row(m["sampling"], *each)
                for each in SAMPLERS.items()
                if each[0] in m["sampling"]
            ]
            lines += table(SAMPLING_HEADER, rows)
    rows = [
        burn_in_row(LABELS[m["scheme"]], m["seed"], m["burn_in"])
        for m in models
        if m.get("burn_in")
    ]
    lines += table(BURN_IN_HEADER, rows)
    lines += table(
        ["model", "seed", "z from", *INPAINTING_FIGURES.values()], inpainting_rows(models)
    )
    painted = [(LABELS[m["scheme"]], m["seed"], m["inpainting"]) for m in models if m["inpainting"]]
    lines += table(
        TRUE_HEADER, [row for each in painted for row in true_rows(*each, INPAINTING_ROWS)]
    )
    lines += table(COUNTS_HEADER, [row for each in painted for row in count_rows(*each)])
    paths = [path for name in STEPS if (path := folder / name).exists()]
    if paths:
        lines += speed([json.loads(path.read_text(encoding="utf-8")) for path in paths])
    return "\n".join(lines).rstrip()


def trial_rows(trials):
    """One row per trial of training settings; the last figure of its curve where it was stopped."""
    rows = []
    for t in trials:
        last, judged = t["curve"][-1], t["validation"]
        stopped = t["epochs_done"] < t["epochs"]
        done = f"stopped after {t['epochs_done']} of {t['epochs']}" if stopped else str(t["epochs"])
        shown = (
            (f"{judged['log_likelihood']:.2f}", mean_and_se(judged["less_reference"]))
            if judged
            else ("-", "-")
        )
        rate = f"{t['kernel_learning_rate']:g}" if t["scheme"] == "l2hmc" else "-"
        moves = [str(t[name] or "-") for name in ("num_transitions", "num_leapfrogs")]
        sizes = (*moves, str(t["batch"]), rate, f"{t.get('budget', 1):g}")
        curve = f"{last['validation_log_likelihood']:.1f}" + (
            f" at epoch {last['epoch']}" if stopped else ""
        )
        label = LABELS[t["scheme"]] + (f", frame by {t['frame']}" if "frame" in t else "")
        curve += f" ({t['curve_temperatures']} temperatures)" if "curve_temperatures" in t else ""
        rows.append([label, *sizes, done, str(t["steps"]), curve, *shown])
    return rows


def trials(folder):
    """The table of trials."""
    stored = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    header = [
        "scheme",
        "K",
        "M",
        "batch",
        "kernel's rate",
        "budget",
        "epochs",
        "steps",
        "quick AIS",
        "AIS",
        "less HMC, 2, 5, 25",
    ]
    return "\n".join(table(header, trial_rows(stored["trials"]))).rstrip()


def main():
    """Rewrite or check docs/paper-dlgm.md."""
    page, folder = "docs/paper-dlgm.md", ROOT / "results" / "paper-dlgm"
    return max(rewrite(page, "dlgm", block(folder)), rewrite(page, "dlgm-trials", trials(folder)))


if __name__ == "__main__":
    sys.exit(main())
