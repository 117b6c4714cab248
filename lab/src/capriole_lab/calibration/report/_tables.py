"""Tables and the verdict of `capriole-lab calibrate`, from stored cells alone."""

from typing import Any, NamedTuple

from .._cases import KERNEL, STIRRED
from .._examine_model import IGNORES_DATA, SBC
from .._settings import JACOBIANS, POWERS

type Cell = dict[str, Any]
type Cells = dict[str, Cell]

KERNEL_HEADER = [
    "subject", "procedure", "smallest p", "of", "verdict", "power of the target found",
    "log-det found",
]  # fmt: skip
BUG_HEADER = ["planted bug", "procedure", "found on", "missed on"]
SBC_HEADER = [
    "model", "draws of", "thinned to every", "ESS of 5 % and median set", "p, parameters",
    "p, with data",
]  # fmt: skip
DATA_DEPENDENT = ("log likelihood", "log posterior")


class Verdict(NamedTuple):
    """One thing that must be so, and whether it is."""

    text: str
    passed: bool


def rows_of(cells: Cells, **wanted: Any) -> list[tuple[str, dict[str, Any]]]:
    """(subject, row) of all rows whose fields have the wanted values."""
    return [
        (name, row)
        for name, cell in cells.items()
        for row in cell["rows"]
        if all(row[field] == value for field, value in wanted.items())
    ]


def procedures(cells: Cells) -> list[str]:
    """All procedures, in the order of the cells."""
    return list(dict.fromkeys(row["procedure"] for cell in cells.values() for row in cell["rows"]))


def verdicts(cells: Cells) -> list[Verdict]:
    """What must be so: no trained kernel is rejected, all of them move, every control is rejected,
    every bug found.

    A kernel of an exact target moves if its mean squared jump is a tenth of the variance, one of a
    model if most chains are not where they began.
    """
    kernels = rows_of(cells, expected="pass")
    accused = [
        f"{_label(name, row)} ({row['procedure']}, {row['by']})"
        for name, row in kernels
        if row["rejected"]
    ]
    measured = [(name, row) for name, row in kernels if "squared_jump" in row or "moved" in row]
    still = [_label(name, row) for name, row in measured if not _moves(row)]
    controls = rows_of(cells, expected="reject")
    missed = [
        f"{row['case']}, {name} ({row['procedure']})"
        for name, row in controls
        if not row["rejected"]
    ]
    found = [
        Verdict(_counted("sound kernels rejected", len(kernels), accused), not accused),
        Verdict(_counted("sound kernels that hardly move", len(measured), still), not still),
        Verdict(_counted("wrong targets and samplers missed", len(controls), missed), not missed),
    ]
    bugs: dict[str, list[str]] = {}
    for bug, _, seen, _ in _bugs(cells):
        bugs.setdefault(bug, []).extend(seen)
    unseen = [bug for bug, seen in bugs.items() if not seen]
    return [
        *found,
        Verdict(_counted("bugs that no procedure finds", len(bugs), unseen), not unseen),
    ]


def _moves(row: dict[str, Any]) -> bool:
    return row.get("squared_jump", 1.0) >= 0.1 and row.get("moved", 1.0) >= 0.5


def blind_spots(cells: Cells) -> str:
    """Bugs that a single procedure finds on no subject."""
    found = _bugs(cells)
    unseen = [f"{bug} ({procedure})" for bug, procedure, seen, _ in found if not seen]
    return _counted("pairs of a bug and a procedure without a find", len(found), unseen)


def _counted(what: str, total: int, names: list[str]) -> str:
    return f"{what}: {len(names)} of {total}" + (f": {'; '.join(names)}" if names else "")


def _bugs(cells: Cells) -> list[tuple[str, str, list[str], list[str]]]:
    """(bug, procedure, subjects on which it was found, those on which not)."""
    planted = rows_of(cells, expected="somewhere")
    out = []
    for bug in dict.fromkeys(row["case"].removesuffix(STIRRED) for _, row in planted):
        for procedure in procedures(cells):
            same = (
                r
                for r in planted
                if r[1]["procedure"] == procedure and r[1]["case"].removesuffix(STIRRED) == bug
            )
            outcome = {_label(name, row): row["rejected"] for name, row in same}
            seen = [label for label, rejected in outcome.items() if rejected]
            if outcome:
                out.append(
                    (bug, procedure, seen, [label for label in outcome if label not in seen])
                )
    return out


def _label(name: str, row: dict[str, Any]) -> str:
    return name + STIRRED if row["case"].endswith(STIRRED) else name


def kernel_rows(cells: Cells) -> list[list[str]]:
    """A row per subject and procedure: the kernel's verdict, the smallest bias found."""
    powers = [f"target to the power {power:g}" for power in POWERS]
    jacobians = ["no Jacobian", *(f"{factor:g} of the log-det" for factor in JACOBIANS)]
    out = []
    for name, row in rows_of(cells, expected="pass"):
        found = ["-", "-"]
        if row["case"] == KERNEL:
            found = [
                _smallest(cells[name], row["procedure"], tried) for tried in (powers, jacobians)
            ]
        judged = "fail" if row["rejected"] else "pass"
        out.append(
            [_label(name, row), row["procedure"], p_text(row["p"]), row["by"], judged, *found]
        )
    return out


def _smallest(cell: Cell, procedure: str, cases: list[str]) -> str:
    """The last case, from gross to slight, up to which all are rejected."""
    rejected = {
        row["case"]: row["rejected"] for row in cell["rows"] if row["procedure"] == procedure
    }
    tried = [case for case in cases if case in rejected]
    found = "-" if not tried else "none"
    for case in tried:
        if not rejected[case]:
            break
        found = case
    short = {"no Jacobian": "0"} | {
        f"target to the power {power:g}": f"{power:g}" for power in POWERS
    }
    return short.get(found, found.removesuffix(" of the log-det"))


def bug_rows(cells: Cells) -> list[list[str]]:
    """A row per planted bug and procedure."""
    return [
        [bug, procedure, "; ".join(seen) or "-", "; ".join(missed) or "-"]
        for bug, procedure, seen, missed in _bugs(cells)
    ]


def sbc_rows(cells: Cells) -> list[list[str]]:
    """The kernel, and draws of the prior, in simulation-based calibration."""
    out = []
    for case in (KERNEL, IGNORES_DATA):
        for name, row in rows_of(cells, procedure=SBC, case=case):
            parameters = [
                p for quantity, p in row["p_values"].items() if quantity not in DATA_DEPENDENT
            ]
            dependent = [row["p_values"][quantity] for quantity in DATA_DEPENDENT]
            chain = f"{row['low_ess']:.0f}, {row['median_ess']:.0f}" if "thin" in row else "-"
            thin = str(row["thin"]) if "thin" in row else "-"
            smallest = [
                p_text(min(1.0, len(values) * min(values))) for values in (parameters, dependent)
            ]
            out.append([name, case, thin, chain, *smallest])
    return out


def p_text(p: float) -> str:
    """Two digits."""
    return "< 1e-300" if p < 1e-300 else f"{p:.2g}"


def kernels_in_words(cells: Cells) -> list[str]:
    """What was trained for each subject, and how long it took."""
    return [
        f"{name} ({cell['dim']}-d): {cell['kernel']}; "
        f"training {cell['training_seconds']:.0f} s, all {cell['seconds']:.0f} s"
        for name, cell in cells.items()
    ]
