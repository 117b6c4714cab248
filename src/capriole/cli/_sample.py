"""``capriole sample``: `capriole.sample` in a run folder; the draws are the same, bit for bit."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ._origin import function_again, model_spread, read_counts, read_origin, target_of
from ._progress import LiveProgress
from ._show import show_draws
from ._trouble import Options, Work, survive

if TYPE_CHECKING:
    from ..kernels import AbstractTransition, ChainState, Key

COUNTS = {"num_chains": 1, "num_draws": 4, "num_warmup": 0, "thin": 1}
"""Whole numbers among the arguments of `capriole.sample` that the command sets, and their least."""
KERNEL = "kernel.safetensors"
STAGE = "sample"
WARMUP_LEAPFROGS = 10
"""Leapfrog steps of the warm-up's HMC; the number of `capriole.sample`."""
MEASURED_BYTES = 64 << 20
"""Positions of the last draws that are examined for warnings."""


def start(
    function: str,
    kernel: Path,
    asked: dict[str, Any],
    *,
    spread: float,
    out: Path,
    options: Options,
) -> None:
    """Draw from a stored kernel in a new folder, and print a summary.

    Args:
        function: ``FILE.py:FUNCTION``, the log density that the kernel was trained on.
        kernel: a file of `capriole.save`, which also says the dimension and the precision.
        asked: arguments of `capriole.sample`.
        spread: standard deviation of the starts around 0.
        out: the folder.
        options: how to run.

    Raises:
        typer.Exit: as `survive`.
    """
    from ..models import load
    from ..runs import RunFolder

    def prepare() -> tuple[Any, Work]:
        dim, float64 = _read_header(kernel)
        origin = {"function": function, "dim": dim, "spread": spread, "float64": float64}
        target = target_of(origin, function)
        transition = load(kernel, target)
        started = _started(transition, asked, model_spread(target, origin))
        folder = RunFolder(out)
        folder.claim({"command": "sample"} | asked | {"origin": origin})
        folder.write_kernel(transition, dim=dim)
        return folder, _work(folder, transition, started, asked, options)

    if survive(prepare, out, options, function=function):
        _show(out, options)


def resume(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Go on with the draws in a folder, from the kernel that was copied there.

    Args:
        out: the folder.
        function: the ``FILE.py:FUNCTION`` of the run, named again.
        options: how to run.
        more: further draws per chain of a finished run.

    Raises:
        typer.Exit: as `survive`.
    """
    from ..models import load
    from ..runs import RunFolder, read_json

    def prepare() -> tuple[Any, Work]:
        asked, origin = read_config(read_json(out / "config.json"))
        command = "extend" if more else "resume"
        name = function_again(origin, function, out, command=command, program=options.program)
        target = target_of(origin, name)
        transition = load(out / KERNEL, target)
        folder = RunFolder.open(out)
        started = _started(transition, asked, model_spread(target, origin))
        return folder, _work(folder, transition, started, asked, options, more)

    if survive(prepare, out, options, function=function):
        _show(out, options)


def read_config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `capriole.sample` in a config.json, and the origin of its log density.

    Raises:
        RunFolderError: a value is missing or cannot be.
    """
    origin = read_origin(config)
    return {"seed": config["seed"]} | read_counts(config, COUNTS), origin


def _read_header(kernel: Path) -> tuple[int, bool]:
    """Dimension of a kernel file, and whether it is in double precision; `load` checks the rest."""
    from safetensors import SafetensorError, safe_open

    from ..models import KernelFileError

    if not kernel.is_file():
        raise KernelFileError(f"no kernel file at {kernel}")
    try:
        with safe_open(kernel, framework="numpy") as file:
            header = file.metadata() or {}
        dim = int(header["dim"])
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        raise KernelFileError(f"{kernel} is not a kernel file of capriole: {error}") from error
    if not 0 < dim <= 10**6:
        raise KernelFileError(f"{kernel} has dimension {dim}, which cannot be")
    return dim, header.get("dtype") == "float64"


def _started(
    transition: "AbstractTransition", asked: dict[str, Any], spread: float
) -> tuple["Key", "ChainState"]:
    """The key of the draws and the warmed-up chains, as `capriole.sample` has them."""
    import jax

    from ..coordinates import from_user, users
    from ..kernels import State
    from ..models import check_starts
    from ..sampling import as_key, prepare, run_hmc_warmup

    start_key, warmup_key, sample_key = jax.random.split(as_key(asked["seed"]), 3)
    logdensity, init_key = transition.target, jax.random.fold_in(start_key, 1)
    chains = asked["num_chains"]
    _, position = prepare(users(logdensity), None, start_key, num_chains=chains, spread=spread)
    position = from_user(logdensity, position)
    state = transition.init(position, init_key)
    check_starts(state)
    if not (num_steps := asked["num_warmup"]):
        return sample_key, state
    warm = run_hmc_warmup(
        warmup_key, logdensity, position, num_leapfrogs=WARMUP_LEAPFROGS, num_steps=num_steps
    ).state
    same = isinstance(state, State)
    return sample_key, warm if same else transition.init(warm.position, init_key)


def _work(
    folder: Any,
    transition: "AbstractTransition",
    started: tuple["Key", "ChainState"],
    asked: dict[str, Any],
    options: Options,
    more: int = 0,
) -> Work:
    def work(live: LiveProgress, progress: Callable[[Any], None]) -> None:
        from ..runs import draw_chains_to_disk

        def watched(event: Any, _: Any) -> None:
            folder.metrics.write(event)
            progress(event)

        key, state = started
        streamed = draw_chains_to_disk(
            key,
            transition,
            state,
            folder.draws_path(STAGE, main=True),
            folder.checkpoints,
            num_draws=_wanted(folder, asked["num_draws"], more),
            stage=STAGE,
            thin=asked["thin"],
            seconds=options.checkpoint_every,
            progress=watched,
        )
        if not streamed.completed:
            raise KeyboardInterrupt
        streamed.store.annotate(_attributes(streamed, transition, asked["seed"]))

    return work


def _wanted(folder: Any, num_draws: int, more: int) -> int:
    """Draws per chain in all: those asked for at first, those of extensions, and ``more``."""
    from ..runs import RunFolderError, number

    stored = folder.checkpoints.read(STAGE)
    if stored is not None:
        folder.metrics.rewind(STAGE, stored.step)
        num_draws = max(num_draws, number(stored.facts, "goal"))
    if more and (stored is None or stored.step < num_draws):
        raise RunFolderError(
            f"the run in {folder.path} is not finished; resume it before extending it"
        )
    return num_draws + more


def _attributes(streamed: Any, transition: "AbstractTransition", seed: int) -> dict[str, Any]:
    """The attributes that `capriole.sample` gives its tree; warnings are of the last draws."""
    import numpy as np

    from ..coordinates import users
    from ..sampling import to_datatree

    store = streamed.store
    first = max(0, store.committed - max(4, MEASURED_BYTES // streamed.state.position.nbytes))
    tree = to_datatree(streamed.draws(first), users(transition.target), seed=repr(seed))
    attributes = dict(tree["sample_stats"].attrs)
    for warning in attributes["warnings"].splitlines():
        logging.getLogger("capriole").warning("sampling: %s", warning)
    gradients = int(store.read("sample_stats/n_steps").sum(dtype=np.int64))
    return attributes | {"num_gradients": gradients, "sampling_time": streamed.seconds}


def _show(out: Path, options: Options) -> None:
    if options.as_json:
        from ..runs import open_draws

        attributes = open_draws(out)["sample_stats"].attrs
        typer.echo(json.dumps({str(k): v for k, v in attributes.items()}, indent=2, default=str))
        return
    show_draws(out)
    typer.echo(f"everything is in {out}")
