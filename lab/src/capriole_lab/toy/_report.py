"""The page of section 5.1, from the stored cells alone."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..cells import cells_by_target, named
from ..report import (
    Section,
    autocorrelation_panels,
    chains_over_density,
    page,
    picture,
    points,
    table,
    text,
)
from ..run._figures import density_bounds
from ..targets import make_target
from ._goals import CellRecord, verdicts
from ._settings import TOY_TARGETS
from ._tables import (
    Cells,
    burn_in_rows,
    cost_rows,
    goal_rows,
    in_words,
    mode_rows,
    paper_rows,
    sampler_rows,
)

GOAL_HEADER = ["target", "goal", "bound", "measured", "seeds that meet it", "verdict"]
PAPER_HEADER = [
    "target", "M of L2HMC / HMC", "L2HMC", "L2HMC, paper", "HMC", "HMC, paper", "ratio",
    "ratio, paper",
]  # fmt: skip
SAMPLER_HEADER = [
    "sampler", "gradients per step", "acceptance", "paper's ESS/step", "ESS of x/gradient",
    "ESS of x²/gradient", "ESS/second", "R-hat", "max |z| mean", "max |z| var",
]  # fmt: skip
MODE_HEADER = [
    "target", "sampler", "exact weight of mode 0", "measured, by seed", "R-hat of both starts",
    "switches/step",
]  # fmt: skip
BURN_IN_HEADER = [
    "target",
    "kernel",
    "gradients until stationary energy, median chain",
    "chains that arrived",
]
COST_HEADER = [
    "target", "training s", "training gradients", "paid for after so many effective draws",
    "A-NICE-MC training s", "whole cell s", "of CPU",
]  # fmt: skip
# A figure 1a with every baseline would hide its lines behind each other; those of the appendix have
# their own.
_MAIN = ("l2hmc", "hmc", "hmc_best", "nuts", "chees")
_APPENDIX = ("l2hmc", "lookahead", "hmc", "hmc_best")


def load_cells(folder: Path) -> Cells:
    """Complete cells below ``folder`` by target, in the order of the registry, seeds in order."""
    return cells_by_target(folder, TOY_TARGETS, lambda c: c["seed"])


def write_report(folder: Path, target: Path) -> Path:
    """Write the page about the cells below ``folder``. Raises ValueError if there are none."""
    cells = load_cells(folder)
    if not cells:
        raise ValueError(f"no finished cell below {folder}; run `capriole-lab paper toy` first")
    target.write_text(render(cells), encoding="utf-8")
    return target


def render(cells: Cells) -> str:
    """The page as a string."""
    first = next(iter(cells.values()))[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    seeds = max(len(found) for found in cells.values())
    lead = (
        f"Section 5.1 of Levy, Hoffman and Sohl-Dickstein (ICLR 2018), measured: {seeds} "
        f"seed{'s' if seeds > 1 else ''}, preset {first['preset']}, {named(first['device'])}, "
        f"{first['dtype']}; {versions}."
    )
    sections = [_verdict(cells), _paper_table(cells), _autocorrelation(cells)]
    sections += [s for s in (_chains(cells), _modes(cells), _burn_in(cells)) if s is not None]
    return page(
        "L2HMC against the classics",
        lead,
        [*sections, _efficiency(cells), _appendix(cells), _cost(cells)],
    )


def _verdict(cells: Cells) -> Section:
    found = verdicts(cells)
    passed = sum(v.passed for v in found)
    blocks = [
        text(
            f"{passed} of {len(found)} goals are met. Measured: median over seeds, with the range "
            "in brackets."
        ),
        table(GOAL_HEADER, goal_rows(found)),
        text(
            "Where L2HMC wins and where it does not: smaller of the bulk ESS of x and x², worst "
            "dimension, per gradient. Only samplers with R-hat at most 1.05 and exact moments "
            "within 5 standard errors count."
        ),
        points([in_words(target, found) for target, found in cells.items()]),
    ]
    return Section("Verdict", blocks)


def _paper_table(cells: Cells) -> Section:
    blocks = [
        text(
            "Figure 1c: effective draws per Metropolis-Hastings step as the paper defines them, 1 "
            "/ (1 + 2 Σ A(τ)) over autocorrelations above 0.05. At most 1, blind to narrow "
            "directions and cost. HMC has 10 leapfrogs, as in the paper, and the step size that is "
            "best for this measure. The paper's columns are quoted."
        ),
        table(PAPER_HEADER, paper_rows(cells)),
    ]
    return Section("The paper's table", blocks)


def _curves(cells: Cells, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Curves of the first seed of every target."""
    return {
        target: {
            n: (np.asarray(c["gradients"], float), np.asarray(c["values"], float))
            for n in names
            if (c := found[0]["curves"].get(n))
        }
        for target, found in cells.items()
    }


def _autocorrelation(cells: Cells) -> Section:
    caption = (
        "Figure 1a: autocorrelation against gradient evaluations of one chain, from exact draws "
        "(first seed)."
    )
    return Section(
        "Autocorrelation", [picture(autocorrelation_panels(_curves(cells, _MAIN)), caption)]
    )


def _paths(cell: CellRecord, names: dict[str, str]) -> dict[str, np.ndarray]:
    return {
        n: np.asarray(cell["paths"][row], float) for n, row in names.items() if row in cell["paths"]
    }


def _chains(cells: Cells) -> Section | None:
    """Figure 1b and 1d: one chain of each sampler over the contours of the density."""
    panels = {
        "scg": ("Figure 1b, SCG", {"l2hmc": "l2hmc", "hmc": "hmc"}),
        "mog": ("Figure 1b, MoG, from one mode", {"l2hmc": "l2hmc mode 0", "hmc": "hmc mode 0"}),
        "mog-asym": (
            "Figure 1d, MoG with modes of unlike volume, from the wide mode",
            {"l2hmc": "l2hmc mode 0", "nice": "nice mode 0", "hmc": "hmc mode 0"},
        ),
        "mog2": (
            "Modes of equal volume, 10 apart, from one mode",
            {"l2hmc": "l2hmc mode 0", "nice": "nice mode 0"},
        ),
    }
    blocks = []
    for name, (caption, rows) in panels.items():
        if name in cells and (paths := _paths(cells[name][0], rows)):
            target: Any = make_target(name)
            exact = np.asarray(target.sample(jax.random.key(0), 4000)).T
            density = chains_over_density(
                lambda x, target=target: np.asarray(target(jnp.asarray(x, jnp.zeros(()).dtype))),
                paths,
                density_bounds(exact),
            )
            blocks.append(
                picture(
                    density, f"{caption}: the first steps of one chain (first seed).", form="png"
                )
            )
    return Section("Chains", blocks) if blocks else None


def _modes(cells: Cells) -> Section | None:
    rows = mode_rows(cells)
    words = (
        "All chains start in one mode; the first quarter is discarded. ± is one standard error, "
        "from the spread of independent chains. Mode 0 is the wide one of mog-asym."
    )
    return Section("Modes", [text(words), table(MODE_HEADER, rows)]) if rows else None


def _burn_in(cells: Cells) -> Section | None:
    rows = burn_in_rows(cells)
    words = (
        "From the target's over-dispersed starts until the energy first lies in the central 99 % "
        "of its stationary distribution. The burn-in term is the second expectation of the paper's "
        "loss, on the same kind of starts."
    )
    return Section("Burn-in", [text(words), table(BURN_IN_HEADER, rows)]) if rows else None


def _efficiency(cells: Cells) -> Section:
    words = (
        "Worst dimension throughout; from exact draws unless said otherwise. Gradients of all "
        "chains are counted, those of tuning and warm-up are not. A chain of look-ahead HMC is "
        "charged for the looks it needs; A-NICE-MC evaluates one density per step, charged as one "
        "gradient. An ESS with R-hat far above 1 is no speed."
    )
    tables = [
        table(SAMPLER_HEADER, sampler_rows(found), caption=target, folded=len(cells) > 2)
        for target, found in cells.items()
    ]
    return Section("Every sampler", [text(words), *tables])


def _appendix(cells: Cells) -> Section:
    caption = (
        "Appendix: look-ahead HMC (4 looks, M = 10, step size and refresh rate tuned), first seed."
    )
    return Section(
        "Look-ahead HMC", [picture(autocorrelation_panels(_curves(cells, _APPENDIX)), caption)]
    )


def _cost(cells: Cells) -> Section:
    settings = [
        [target, ", ".join(f"{name} {value}" for name, value in found[0]["settings"].items())]
        for target, found in cells.items()
    ]
    blocks = [
        text(
            "Training includes compilation. Seconds are wall time and depend on what else the "
            "machine did."
        ),
        table(COST_HEADER, cost_rows(cells)),
        table(["target", "settings"], settings, caption="Settings of L2HMC", folded=True),
    ]
    return Section("Cost and settings", blocks)
