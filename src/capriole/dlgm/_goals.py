"""What section 5.2 must show, and whether stored results show it. Works on the plain values of ``results.json``."""

from typing import Any, NamedTuple

import numpy as np

type Results = dict[str, Any]

RATIO, MAX_RHAT, MAX_GAP = 3.0, 1.05, 1.0


class Verdict(NamedTuple):
    """One goal: words, the bound, what was measured, and whether that meets it."""

    goal: str
    bound: str
    measured: str
    passed: bool


def verdicts(results: Results) -> list[Verdict]:
    """All goals whose stages were run. A difference must exceed two standard errors to count."""
    found = [_difference(d) for d in results["differences"]]
    models = results["models"]
    if gaps := [m["evaluation"]["sandwich"]["gap"] for m in models if m["evaluation"]]:
        worst = max(gaps)
        shown = f"{worst:.2f} in the worst of {len(gaps)} models"
        found.append(Verdict("AIS sandwich gap on simulated images", f"< {MAX_GAP:g} nat", shown, worst < MAX_GAP))
    for m in models:
        if sampling := m["sampling"]:
            found += _sampling(sampling)
        if posterior := m["posterior"]:
            many = posterior["many_images"]
            share, error = many["non_gaussian_share"], many["non_gaussian_share_se"]
            shown = f"{share:.0%} ± {error:.0%} of {many['num_images']} images"
            found.append(Verdict("posteriors that are clearly not Gaussian", "> 0", shown, share > 2 * error))
    # Files of earlier versions know no paired difference: run the stage again for this goal.
    painted = [m["inpainting"] for m in models if m["scheme"] == "l2hmc" and m["inpainting"]]
    if painted := [stored for stored in painted if "difference" in stored]:
        found.append(_inpainting(painted))
    return found


def _difference(d: dict[str, Any]) -> Verdict:
    names = {"l2hmc": "L2HMC-DLGM", "hmc": "HMC-DLGM", "elbo": "VAE"}
    each = ", ".join(f"{value:+.2f}" for value in d["by_seed"])
    error = max(d["se_over_images"], d["se_over_seeds"] or 0.0)
    shown = f"{d['mean']:+.2f} ± {error:.2f} nats (by seed: {each})"
    goal = f"test log-likelihood of {names[d['of']]} less {names[d['less']]}"
    return Verdict(goal, "> 0", shown, d["mean"] > 2 * error)


def _sampling(stored: dict[str, Any]) -> list[Verdict]:
    kernel, hmc = stored["kernel"], stored["hmc"]
    found = []
    for figure, words in (("ess", "ESS of z"), ("worse", "smaller of the ESS of z and of z²")):
        ratio = stored[f"{figure}_per_gradient_over_hmc"]
        shown = f"{ratio:.2f} ({kernel[f'{figure}_per_gradient']:.4f} over {hmc[f'{figure}_per_gradient']:.4f})"
        goal = f"{words}, per gradient, trained kernel over tuned HMC"
        found.append(Verdict(goal, f"≥ {RATIO:g}", shown, ratio >= RATIO))
    return [
        *found,
        Verdict(
            "largest R-hat of the trained kernel", f"< {MAX_RHAT:g}", _number(kernel["max_rhat"]),
            (kernel["max_rhat"] or MAX_RHAT) < MAX_RHAT,
        ),
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _inpainting(by_seed: list[dict[str, Any]]) -> Verdict:
    """All models saw the same images: the error over images is at most the mean of those of the models."""
    kernel, q = (_mean([stored[name]["distinct_classes"] for stored in by_seed]) for name in ("sampler", "encoder"))
    more = [stored["difference"]["distinct_classes"] for stored in by_seed]
    each = [figure["mean"] for figure in more]
    over_seeds = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0
    mean, error = _mean(more), max(float(np.mean([figure["se"] for figure in more])), over_seeds)
    seeds = "; by seed: " + ", ".join(f"{value:+.2f}" for value in each) if len(each) > 1 else ""
    shown = f"{mean:+.2f} ± {error:.2f} ({kernel:.2f} less {q:.2f}, paired over images{seeds})"
    goal = "digit classes per in-painted image, kernel less q"
    return Verdict(goal, "> 0", shown, mean > 2 * error)


def _mean(figures: list[dict[str, float]]) -> float:
    return float(np.mean([figure["mean"] for figure in figures]))
