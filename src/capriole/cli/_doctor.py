"""The doctor's table."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._trouble import fail

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def diagnose(function: str, *, dim: int, spread: float, seed: int, float64: bool) -> None:
    """Examine ``FILE.py:FUNCTION`` and print the findings; leave with status 1 if one of them is an
    error.
    """
    import jax

    from ..models import diagnose_logdensity
    from ._user import import_function, user_target

    jax.config.update("jax_enable_x64", float64)
    try:
        target = user_target(import_function(function), dim=dim, spread=spread)
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
    raise typer.Exit(1 if "error" in verdicts else 0)
