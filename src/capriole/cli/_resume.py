"""``capriole resume`` and ``capriole extend``: go on with whatever run a folder holds."""

from pathlib import Path

from ._trouble import Options, fail


def go_on(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Resume the run in a folder, or extend it by draws.

    Args:
        out: the folder.
        function: the ``FILE.py:FUNCTION`` of the run, named again.
        options: how to run.
        more: further draws per chain of a finished run.

    Raises:
        typer.Exit: as the command that began the run.
    """
    from ..runs import RunFolderError, read_json
    from . import _fit, _sample, _train

    try:
        command = read_json(out / "config.json").get("command")
    except RunFolderError as error:
        fail(str(error))
    if command == "train":
        if more:
            fail(
                f"{out} holds a training, which has no draws; draw from its kernel with: "
                f"{options.program} sample FILE.py:FUNCTION --kernel {out / _train.KERNEL}"
            )
        _train.resume(out, function, options)
    elif command == "sample":
        _sample.resume(out, function, options, more=more)
    elif command in (None, "fit"):  # `read_config` says what is wrong with a file that names none
        _fit.resume(out, function, options, more=more)
    else:
        fail(f"{out} holds no run of this command, but one of {str(command)[:80]!r}")
