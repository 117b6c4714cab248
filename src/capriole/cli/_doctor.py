"""The doctor's table."""

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ._trouble import fail

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def diagnose(function: str, *, dim: int | None, spread: float, seed: int, float64: bool) -> None:
    """Examine ``FILE.py:FUNCTION`` and print the findings; leave with status 1 if one of them is an
    error.
    """
    import jax

    from ..models import Model, diagnose_logdensity
    from ._user import check_model, import_named, user_target

    jax.config.update("jax_enable_x64", float64)
    try:
        target = import_named(function)
        if isinstance(target, Model):
            check_model(target, dim)
            dim = len(target.labels)
        elif dim is None:
            fail(f"give the dimension of {function}: --dim N")
        else:
            target = user_target(target, dim=dim, spread=spread)
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
    for finding in diagnose_logdensity(target, dim=dim, key=jax.random.key(seed), spread=spread):
        verdicts.add(finding.verdict)
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(finding.name, verdict, escape(finding.found), escape(finding.remedy))
    Console().print(table)
    raise typer.Exit(1 if "error" in verdicts else 0)
