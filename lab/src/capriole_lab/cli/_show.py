"""Tables for the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROWS = (
    ("num_leapfrogs", "leapfrogs M", "{}"),
    ("step_size", "step size", "{:.3g}"),
    ("start", "starts", "{}"),
    ("acceptance_rate", "acceptance", "{:.2f}"),
    ("paper_ess_per_step", "paper's ESS / step", "{:.3g}"),
    ("bulk_ess_per_gradient", "bulk ESS of x / gradient", "{:.3g}"),
    ("bulk_ess_sq_per_gradient", "bulk ESS of x² / gradient", "{:.3g}"),
    ("ess_per_second", "ESS / second", "{:.3g}"),
    ("rhat_max", "R-hat", "{:.3f}"),
    ("max_abs_z_mean", "max |z| of means", "{:.1f}"),
    ("max_abs_z_var", "max |z| of variances", "{:.1f}"),
    ("mode_switches_per_step", "mode switches / step", "{:.2g}"),
)

RATIOS = (
    "paper_ess_per_step_vs_hmc",
    "bulk_ess_per_gradient_vs_hmc",
    "bulk_ess_sq_per_gradient_vs_hmc",
)


def show_targets() -> None:
    """One line per target, and where the data of posteriordb are."""
    from ..targets import MODELS, POSTERIORS, TARGETS, PosteriordbError, find_posteriordb

    console = Console()
    table = Table("target", "what it is", "source")
    for name, entry in (TARGETS | MODELS).items():
        table.add_row(name, entry.summary, entry.source)
    console.print(table)
    console.print("Real posteriors with reference draws, from a checkout of posteriordb:")
    for name, entry in POSTERIORS.items():
        console.print(f"  {name}\n      {entry.summary}", highlight=False)
    try:
        console.print(
            f"Their data are in {find_posteriordb()}", soft_wrap=True, highlight=False, markup=False
        )
    except PosteriordbError as error:
        console.print(str(error), style="yellow", soft_wrap=True, highlight=False, markup=False)


def show_file(path: Path) -> None:
    """The table of a results.json. Raises ValueError or OSError if it has none."""
    from rich.errors import MarkupError

    from capriole.runs import read_json

    try:
        show_results(read_json(path))
    except (KeyError, TypeError, AttributeError, IndexError, MarkupError) as error:
        raise ValueError(
            f"{path} is not a results.json of capriole: {type(error).__name__} {error}"
        ) from error


def show_results(results: dict[str, Any]) -> None:
    """The table of a run: one row per sampler, ratios, cost of training, warnings."""
    console = Console()
    samplers = results["samplers"]
    made = (results["preset"], f"seed {results['seed']}", results["device"], results["dtype"])
    title = f"{results['target']} ({', '.join(made)})"
    table = Table(
        "", *(name.replace("_", " ") for name in samplers), title=title, title_justify="left"
    )
    for key, label, form in ROWS:
        cells = [_cell(row.get(key), form) for row in samplers.values()]
        if any(cell != "-" for cell in cells):
            table.add_row(label, *cells)
    if any(row["mode_weights"] for row in samplers.values()):
        table.add_row("mode weights", *(_weights(row) for row in samplers.values()))
    console.print(table)
    for line in summary(results):
        console.print(line, highlight=False)


def summary(results: dict[str, Any]) -> list[str]:
    """What the table means, in words."""
    lines = []
    training, ratios = results.get("training"), results.get("ratios") or {}
    if training:
        seconds, compiling = training["seconds"], training["compile_seconds"]
        lines.append(
            f"training: {training['steps']} steps, {training['num_gradients']:.3g} gradients, "
            f"{seconds:.1f} s (and {compiling:.1f} s compiling)"
        )
    if all(ratios.get(name) for name in RATIOS):
        paper, mean, square = (ratios[name] for name in RATIOS)
        lines.append(
            f"against HMC tuned at the same M: {paper:.3g} times the paper's ESS per step; in the "
            "worst dimension, per "
            f"gradient, {mean:.3g} times the bulk ESS of x and {square:.3g} times that of x²"
        )
        if min(mean, square) < 1:
            lines.append("[yellow]the learned kernel lost to HMC on this target: use HMC[/yellow]")
    elif ratios:
        lines.append(
            "[yellow]against HMC: cannot be compared, for the ESS of one of the two is not "
            "defined[/yellow]"
        )
    for warning in (training or {}).get("warnings", []):
        lines.append(f"[yellow]training: {warning}[/yellow]")
    for name, row in results["samplers"].items():
        lines += [f"[yellow]{name}: {warning}[/yellow]" for warning in row.get("warnings", [])]
    return lines


def _cell(value: float | str | None, form: str) -> str:
    return "-" if value is None else form.format(value).replace("_", " ")


def _weights(row: dict[str, Any]) -> str:
    if not row["mode_weights"]:
        return "-"
    pairs = zip(row["mode_weights"], row["mode_weights_se"], strict=True)
    return "\n".join(f"{weight:.3f}±{_cell(error, '{:.3f}')}" for weight, error in pairs)
