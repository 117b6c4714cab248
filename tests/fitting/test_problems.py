"""Problems as data: their words, their severity, and that nothing is decided by words."""

import ast
from pathlib import Path

import numpy as np
import pytest

import capriole
from capriole import diagnostics
from capriole.diagnostics import Problem, ProblemKind, Severity, fatal, health, rounding

WARNING, FATAL = Severity
FEW = np.arange(4000).reshape(4, 1000) < 40
"""One in a hundred steps."""
SOURCE = Path(capriole.__file__).parent
WORDS = {"name", "message", "text", "remedy", "chosen", "own"}
"""Attributes that hold words for people."""


def problem(message, remedy="", severity=Severity.WARNING):
    return Problem(ProblemKind.STUCK, severity, message, remedy)


def test_the_text_is_the_message_and_the_remedy():
    assert str(problem("3 % are not finite")) == "3 % are not finite"
    assert str(problem("3 % are not finite", "use float64")) == "3 % are not finite: use float64"
    assert str(problem("R-hat is 1.3: not mixed", "draw more")) == (
        "R-hat is 1.3: not mixed; draw more"
    )


def test_only_fatal_problems_forbid_the_draws():
    small, large = problem("a"), problem("b", severity=Severity.FATAL)
    assert fatal([small, large, small]) == (large,)
    assert fatal([small]) == ()
    assert large.is_fatal
    assert not small.is_fatal


def steps(**changes):
    """Arrays of 4 chains of 1,000 steps for `health`."""
    arrays = {
        "acceptance_rate": np.full((4, 1000), 0.8),
        "accepted": np.ones((4, 1000), bool),
        "diverging": np.zeros((4, 1000), bool),
        "num_nonfinite": 0,
    }
    return arrays | changes


def still(num):
    accepted = np.ones((4, 1000), bool)
    accepted[1, 100 : 100 + num] = False
    return accepted


@pytest.mark.parametrize(
    ("found", "kind", "severity"),
    [
        (steps(accepted=still(900)), ProblemKind.STUCK, FATAL),
        (steps(num_nonfinite=40), ProblemKind.NONFINITE, WARNING),
        (steps(num_nonfinite=400), ProblemKind.NONFINITE, FATAL),
        (steps(diverging=FEW), ProblemKind.DIVERGENT, WARNING),
        (steps(acceptance_rate=0.0 * FEW + 0.01), ProblemKind.LOW_ACCEPTANCE, WARNING),
        (steps(rhat_max=1.2), ProblemKind.NOT_MIXED, FATAL),
        (steps(rhat_max=np.nan), ProblemKind.NOT_MIXED, FATAL),
        (steps(mode_weights=np.array([1.0, 0.0])), ProblemKind.MODE_MISSED, WARNING),
        (steps(mode_switches=0.0), ProblemKind.MODE_NEVER_LEFT, WARNING),
        (steps(logdensity=np.full_like(FEW, -2e5, np.float32)), ProblemKind.ROUNDING, WARNING),
    ],
)  # fmt: skip
def test_every_check_has_a_kind_and_a_severity(found, kind, severity):
    (said,) = health(**found)
    assert (said.kind, said.severity) == (kind, severity)
    assert said.message
    assert said.remedy or kind is ProblemKind.NOT_MIXED


def test_a_chain_that_never_moved_and_noise_above_one_are_fatal():
    never = health(**steps(accepted=np.tile([[True], [False], [True], [True]], 1000)))
    assert [(p.kind, p.severity) for p in never] == [(ProblemKind.NEVER_MOVED, Severity.FATAL)]
    (noise,) = rounding(1e17, 1e-16)
    assert noise.is_fatal


def test_a_reach_of_a_tail_is_that_of_the_worst_end():
    position = np.clip(np.random.default_rng(0).normal(size=(8, 500, 1)), -1.0, None)
    quantiles = tuple(np.quantile(np.random.default_rng(1).normal(size=10**5), diagnostics.LEVELS))
    (said,) = diagnostics.tail_problems(position, [diagnostics.Marginal(0, quantiles)])
    assert (said.kind, said.severity, said.reach) == (ProblemKind.TAIL_MISSED, Severity.FATAL, 0)


def decided_by_words(tree):
    """Lines that ask what a text begins with, ends with, or contains."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("startswith", "endswith"):
            found.append(node.lineno)
        if isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.In | ast.NotIn):
            right = node.comparators[-1]
            in_words = isinstance(right, ast.Attribute) and right.attr in WORDS
            if in_words or (isinstance(right, ast.Call) and ast.unparse(right.func) == "str"):
                found.append(node.lineno)
    return found


def test_nothing_is_decided_by_words():
    """Words are for people: decisions are made by kinds, severities and numbers."""
    files = [path for room in ("fitting", "diagnostics") for path in (SOURCE / room).rglob("*.py")]
    assert len(files) > 20
    lines = [
        f"{path.name}:{line}"
        for path in files
        for line in decided_by_words(ast.parse(path.read_text()))
    ]
    assert lines == []


@pytest.mark.parametrize(
    "code",
    [
        "row.name.startswith('transported')",
        "'HMC' in candidate.name",
        "'error' not in problem.message",
        "'error' in str(problem)",
        "any(map(str.endswith, names))",
    ],
)
def test_the_control_finds_decisions_by_words(code):
    assert decided_by_words(ast.parse(code)) == [1]


@pytest.mark.parametrize("code", ["name in seen", "row.name == verdict.chosen", "kind in KINDS"])
def test_the_control_lets_identities_pass(code):
    assert decided_by_words(ast.parse(code)) == []
