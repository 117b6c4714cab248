"""What a run folder holds, for the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import xarray

MAX_BYTES = 64 << 20
"""Size of the last draws that a summary reads; earlier ones of a longer run are left out."""
MAX_ROWS = 20
"""Rows of a summary that are printed."""
WIDTH = 100
"""Columns of a summary at least: where there is no terminal, rich believes in 80."""
TRAINING = "training.json"
LAST = 10
"""The figures of training that are shown are means over the last tenth of its steps."""


def show_folder(folder: Path) -> None:
    """Print what a finished run in a folder has found.

    Args:
        folder: the folder of a `fit`, `train` or `sample`.

    Raises:
        ValueError: a file in it is not what it should be.
        OSError: it holds no finished run.
    """
    if (folder / TRAINING).exists():
        show_training(folder)
    elif (folder / "verdict.json").exists() or not (folder / "draws.zarr").exists():
        show_verdict(folder / "verdict.json")
    if (folder / "draws.zarr").exists():
        show_draws(folder)


def show_verdict(path: Path) -> bool:
    """Print the table of a verdict.

    Args:
        path: a verdict.json, whoever wrote it.

    Returns:
        Whether the verdict is ``failed``.

    Raises:
        ValueError: it is not a verdict.json.
        OSError: it cannot be read.
    """
    from ..fitting import Verdict
    from ..runs import read_json

    try:
        verdict = Verdict.read(read_json(path))
        table = verdict.table()
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a verdict.json of capriole: {error}") from error
    _print(table)
    return verdict.failed


def show_training(folder: Path) -> None:
    """Print what training cost and where it ended.

    Raises:
        ValueError: the folder's training.json is none.
        OSError: it cannot be read.
    """
    from ..runs import read_json

    content = read_json(folder / TRAINING)
    try:
        lines = _training_lines(content)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / TRAINING} is not a training.json of capriole") from error
    _print("\n".join(lines))


def _training_lines(content: dict[str, Any]) -> list[str]:
    history = content["history"]
    steps = len(history["loss"])

    def last(name: str) -> float:
        values = [value for value in history[name][-max(1, steps // LAST) :] if value is not None]
        return sum(values) / len(values)

    cost = "{:,d} gradients, {:.1f} s and {:.1f} s of compilation".format(
        *(content[name] for name in ("num_gradients", "seconds", "compile_seconds"))
    )
    return [
        f"trained for {steps:,d} steps: {cost}",
        "mean of the last steps: acceptance "
        f"{last('acceptance_rate'):.2f}, loss {last('loss'):.3g}",
    ]


def show_draws(folder: Path) -> None:
    """Print the posterior summary of the draws in a folder, and what is wrong with them.

    Raises:
        RunFolderError: the draws are missing or damaged.
    """
    import arviz_stats

    from ..runs import open_draws

    tree = open_draws(folder)
    posterior = tree["posterior"].to_dataset()
    num_draws = posterior.sizes["draw"]
    fitting = max(4, MAX_BYTES // max(1, posterior.nbytes // max(1, num_draws)))
    if num_draws < 4:
        _print(f"{num_draws} draws per chain: too few to summarise")
        return
    tail = posterior.isel(draw=slice(-fitting, None)).load()
    summary = arviz_stats.summary(_first_quantities(tail))
    console = Console(width=max(Console().width, WIDTH))
    console.print(_table(summary.head(MAX_ROWS)), highlight=False)
    total = sum(int(value[0, 0].size) for value in tail.data_vars.values())
    if total > MAX_ROWS:
        _print(f"... the first {MAX_ROWS} of {total} quantities; arviz_stats.summary has them all")
    if num_draws > fitting:
        _print(f"of the last {fitting} of {num_draws} draws per chain")
    if warnings := str(tree["posterior"].attrs.get("warnings", "")):
        _print(warnings)


def _table(summary: Any) -> Table:
    """A summary of ArviZ, a data frame, as a table."""
    table = Table("", *map(str, summary.columns), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, row in summary.astype(float).iterrows():
        table.add_row(escape(str(name)), *map(_figure, row))
    return table


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _first_quantities(posterior: "xarray.Dataset") -> "xarray.Dataset":
    """The first variables, at least `MAX_ROWS` numbers of them where there are as many."""
    chosen, left = {}, MAX_ROWS
    for name, value in posterior.data_vars.items():
        if left <= 0:
            break
        per_entry = int(value[0, 0, 0].size) if value.ndim > 2 else 1
        kept = value[:, :, : -(-left // max(1, per_entry))] if value.ndim > 2 else value
        chosen[name] = kept
        left -= int(kept[0, 0].size)
    return posterior[[]].assign(chosen)


def _print(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
