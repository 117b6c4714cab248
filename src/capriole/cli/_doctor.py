"""The doctor's table."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._trouble import fail

CHAINS = 64
"""Chains of the warm-up of `capriole fit`."""
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def diagnose(
    function: str, *, dim: int | None, init: str | None, spread: float, seed: int, float64: bool
) -> None:
    """Examine ``FILE.py:FUNCTION`` and print the findings; leave with status 1 if one of them is an
    error.
    """
    import jax

    from ..models import Model, as_logdensity, diagnose_logdensity
    from ._user import check_model, import_function, load_with_init, user_target

    jax.config.update("jax_enable_x64", float64)
    try:
        if dim is None:
            user, position, dim = load_with_init(function, init)
            target = user if isinstance(user, Model) else as_logdensity(user, position)[0]
        else:
            found = import_function(function)
            if isinstance(found, Model):
                check_model(found, dim)
                target = found
            else:
                target = user_target(found, dim=dim, spread=spread)
    except ValueError as error:
        fail(str(error))
    table = Table(
        "check",
        "",
        "what was found",
        "what to do",
        title=f"{function}, {dim} dimensions",
        title_justify="left",
    )
    verdicts = set()
    precision = "float64" if float64 else "float32"
    asked: dict[str, Any] = {"dim": dim, "spread": spread, "precision": precision}
    for finding in diagnose_logdensity(target, key=jax.random.key(seed), **asked):
        verdicts.add(finding.verdict)
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(finding.name, verdict, escape(finding.found), escape(finding.remedy))
    Console().print(table)
    if "error" not in verdicts:
        Console().print(_expected(target, dim, spread, seed), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if "error" in verdicts else 0)


def _expected(target: Any, dim: int, spread: float, seed: int) -> str:
    """What `capriole fit` may take on the log density, in words."""
    import jax

    from ..adaptation import expected_cost, gradient_seconds
    from ..fitting import EXPLORATORY_RATIO
    from ..models import Model, as_logdensity

    if isinstance(target, Model):
        target, _ = as_logdensity(target)
    points = spread * jax.random.normal(jax.random.key(seed), (CHAINS, dim)).T
    return expected_cost(gradient_seconds(target, points), CHAINS, EXPLORATORY_RATIO * CHAINS)
