"""The cases of a trial: the kernel itself, which must pass, and wrong ones, which must not."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from capriole.kernels import AbstractTransition

from ._controls import BUGS, Bug, bugs_of, stirred
from ._settings import JACOBIANS, POWERS, SHARE

KERNEL = "the kernel"
STIRRED = ", stirred"
"""Ends the name of a case whose kernel is the trained one with noise in its networks."""


class Case(NamedTuple):
    """A kernel on trial: itself, with a bug, or for a power of the target; ``expected`` says what
    must come out.

    ``pass``; ``reject``; ``somewhere``: rejected on at least one subject, for how much a bug
    matters depends on the kernel; ``measure``: nothing, it shows how small a bias is found.
    """

    name: str
    expected: str
    bug: Bug | None = None
    power: float = 1.0
    stirred: bool = False

    def of(self, kernel: AbstractTransition) -> AbstractTransition:
        """The kernel to begin with: the trained one, or that stirred."""
        return stirred(jax.random.key(0), kernel) if self.stirred else kernel


def cases(kernel: AbstractTransition, *, slight: bool) -> Iterator[Case]:
    """The kernel, every bug, wrong targets and Jacobians from gross to (if wanted) ``slight``."""
    yield Case(KERNEL, "pass")
    bugs = bugs_of(kernel)
    for name in bugs:
        yield Case(name, "somewhere", BUGS[name])
    for i, power in enumerate(POWERS if slight else POWERS[:5]):
        yield Case(
            f"target to the power {power:g}", "measure" if i else "reject", BUGS["none"], power
        )
    if "no Jacobian" in bugs:
        for factor in JACOBIANS if slight else JACOBIANS[:2]:
            yield Case(f"{factor:g} of the log-det", "measure", Bug(log_det=factor - 1))
        yield Case(KERNEL + STIRRED, "pass", stirred=True)
        for name in ("no Jacobian", "always forward"):
            yield Case(name + STIRRED, "somewhere", BUGS[name], stirred=True)


def row(procedure: str, case: Case, p_values: dict[str, float], **facts: Any) -> dict[str, Any]:
    """The record of a case with a p-value per quantity; Bonferroni's decides."""
    adjusted = min(1.0, len(p_values) * min(p_values.values()))
    return verdict(procedure, case, p_values, adjusted <= SHARE, **facts)


def verdict(
    procedure: str, case: Case, p_values: dict[str, float], rejected: bool, **facts: Any
) -> dict[str, Any]:
    """The record of a case whose rejection is decided elsewhere; ``p`` is Bonferroni's."""
    by = min(p_values, key=lambda name: p_values[name])
    adjusted = min(1.0, len(p_values) * p_values[by])
    found = {
        "procedure": procedure,
        "case": case.name,
        "expected": case.expected,
        "power": case.power,
    }
    return found | {
        "rejected": bool(rejected),
        "p": adjusted,
        "by": by,
        "p_values": p_values,
        **facts,
    }
