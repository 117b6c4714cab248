"""The verdict of a run, for the terminal."""

from pathlib import Path

from rich.console import Console


def show_verdict(path: Path) -> bool:
    """The table of a verdict.json, whoever wrote it, and whether it is ``failed``. Raises
    ValueError or OSError.
    """
    from ..fitting import Verdict
    from ..runs import read_json

    try:
        verdict = Verdict.read(read_json(path))
        table = verdict.table()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a verdict.json of capriole: {error}") from error
    Console().print(table, highlight=False, markup=False, soft_wrap=True)
    return verdict.failed
