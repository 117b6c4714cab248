"""The front door: ``train`` and ``sample`` for users, from a log density to an ArviZ DataTree."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import _sample
from ._candidates import Trainer, on_these_devices, train_best
from ._check import check_count, check_dtype, check_logdensity, check_spread, check_starts, trainable
from ._devices import Devices
from ._dynamics import learned_leapfrog
from ._health import health, training_health
from ._io import versions
from ._logdensity import AbstractLogDensity
from ._objectives import AbstractObjective, LogESJD
from ._pilot import run_pilot
from ._ravel import as_logdensity, named_arrays
from ._schedules import adam, cooling, decay
from ._train import Progress, Recipe, TrainResult
from ._transition import AbstractTransition, Transition, state_at
from ._types import Key, State, Vector
from ._whitening import drawn_to_user, from_user, users

if TYPE_CHECKING:
    import xarray

log = logging.getLogger("capriole")


def train(
    logdensity: Callable,
    init: Any = None,
    *,
    seed: int | Key = 0,
    num_leapfrogs: int = 10,
    width: int | None = None,
    step_size: float | None = None,
    num_steps: int = 5000,
    num_chains: int = 200,
    num_candidates: int = 1,
    learning_rate: float = 5e-3,
    objective: AbstractObjective | None = None,
    start_temperature: float = 1.0,
    spread: float = 1.0,
    devices: Devices | None = None,
    progress: Callable[[Progress], None] | None = None,
    resume: Trainer | None = None,
) -> TrainResult:
    """Train a learned leapfrog on ``logdensity`` and return the frozen kernel with its history.

    ``logdensity`` maps one position (any pytree of arrays shaped like ``init``) to its unnormalised log density, a
    scalar; or it is one of capriole's targets, and ``init`` may be left out. Chains start at
    ``init + spread * N(0, I)``; a short run of plain HMC then finds the typical set, the step size (unless given) and
    the scales for the objective (default `LogESJD`; networks of ``width`` max(10, 2 dim) up to 100 units).
    With ``num_candidates`` above 1, that many kernels are trained for a quarter of the steps first and the best of them
    goes on: a remedy where training settles in a poor kernel.
    ``start_temperature`` above 1 flattens the density at first and cools it over the first 70 % of the steps, for
    targets with several modes (give ``spread`` wide enough to reach them all).

    ``devices``, e.g. ``jax.devices()``, divides the chains evenly over several devices.
    ``resume`` keeps checkpoints and goes on from them, if there are any: `capriole.runs.CheckpointedTrainer`, which
    takes ``devices`` itself.

    If the log density has no second derivative the force is held constant in the training signal, and the log says
    so; the kernel stays exact. Raises ValueError for a log density or init that cannot work (see the message),
    `TrainingDivergedError` if training collapses for good.
    """
    if resume is not None and devices is not None:
        raise ValueError("devices has no effect together with resume; give it to CheckpointedTrainer(devices=...)")
    key = as_key(seed)
    num_leapfrogs, num_steps = check_count("num_leapfrogs", num_leapfrogs, 1), check_count("num_steps", num_steps, 1)
    num_candidates = check_count("num_candidates", num_candidates, 1)
    if not 0 < start_temperature < 1e300:
        raise ValueError(f"start_temperature must be positive and finite, got {start_temperature} (1: the target)")
    start_key, pilot_key, build_key, train_key = jax.random.split(key, 4)
    target, position = prepare(logdensity, init, start_key, num_chains=num_chains, spread=spread)
    training_target, smooth = trainable(target, position[:, 0])
    if not smooth:
        log.warning("the log density has no second derivative: training holds its force constant (the kernel is exact)")
    pilot = run_pilot(pilot_key, target, position, num_leapfrogs=num_leapfrogs)
    dim = position.shape[0]
    candidates = [
        learned_leapfrog(
            jax.random.fold_in(build_key, i),
            dim=dim,
            num_leapfrogs=num_leapfrogs,
            step_size=float(pilot.step_size) if step_size is None else step_size,
            width=min(max(10, 2 * dim), 100) if width is None else width,
            dtype=position.dtype,
        )
        for i in range(num_candidates)
    ]
    recipe = Recipe(
        objective=LogESJD(pilot.mean, pilot.variance, acceptance=3.0, ceiling=2.1) if objective is None else objective,
        optimizer=adam(decay(learning_rate, num_steps=num_steps)),
        temperature=cooling(start_temperature, num_steps=int(0.7 * num_steps)) if start_temperature != 1 else None,
    )
    result = train_best(
        train_key,
        [Transition(training_target, dynamics) for dynamics in candidates],
        pilot.state.position,
        recipe,
        num_steps=num_steps,
        candidate_steps=max(1, num_steps // 4),
        progress=progress,
        trainer=on_these_devices(devices) if resume is None else resume,
    )
    for warning in training_health(*(result.history[name] for name in ("loss", "acceptance_rate", "is_skipped"))):
        log.warning("training: %s", warning)
    return result._replace(
        transition=eqx.tree_at(lambda t: t.logdensity, result.transition, target),
        num_gradients=result.num_gradients + pilot.num_gradients,
    )


def sample(
    transition: AbstractTransition,
    init: Any = None,
    *,
    starts: Any = None,
    seed: int | Key = 0,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_warmup: int = 200,
    thin: int = 1,
    spread: float = 1.0,
    chunk_size: int = 200,
    devices: Devices | None = None,
    progress: Callable[[Progress, _sample.Record], None] | None = None,
) -> "xarray.DataTree":
    """Draw from the target of a frozen kernel; groups and names are ArviZ's.

    Chains start at ``init + spread * N(0, I)``, or exactly at ``starts``, flat positions of shape (dim, chains).
    ``num_warmup`` steps of plain HMC, whose step size adapts, bring them to the typical set and are discarded; the
    draws come from ``transition`` alone, and nothing adapts while they are kept.

    The tree has the group ``posterior`` with one variable per leaf of the user's pytree, dims ``(chain, draw, ...)``,
    and ``sample_stats`` with ``lp`` (log density), ``acceptance_rate``, ``diverging``, ``energy``, ``n_steps``
    (gradients) and capriole's own ``accepted``, ``direction``, ``log_det``, ``log_ratio``, ``nonfinite``, ``jump_sq``.
    Its attributes record versions, seed and cost; ``completed`` is 0 if Ctrl-C ended the run early; ``warnings`` is
    what looks unhealthy, with a remedy, one per line, and the log repeats it.

    ``devices``, e.g. ``jax.devices()``, divides the chains evenly over several devices.

    Raises ValueError if a chain starts outside the support, or ``starts`` are no positions of this log density.
    """
    start_key, warmup_key, sample_key = jax.random.split(as_key(seed), 3)
    logdensity, init_key = transition.target, jax.random.fold_in(start_key, 1)
    num_warmup = check_count("num_warmup", num_warmup, 0)
    if starts is not None:
        position = _as_starts(starts, logdensity)
    else:
        _, position = prepare(users(logdensity), init, start_key, num_chains=num_chains, spread=spread)
    position = from_user(logdensity, position)
    state = transition.init(position, init_key)
    check_starts(state)
    if num_warmup:
        warm = run_pilot(warmup_key, logdensity, position, num_leapfrogs=10, num_steps=num_warmup).state
        state = warm if isinstance(state, State) else transition.init(warm.position, init_key)
    draws = _sample.draw_chains(
        sample_key,
        transition,
        state,
        num_draws=num_draws,
        thin=thin,
        chunk_size=chunk_size,
        devices=devices,
        progress=progress,
    )
    tree = to_datatree(draws, logdensity, seed=repr(seed))
    for warning in tree["sample_stats"].attrs["warnings"].splitlines():
        log.warning("sampling: %s", warning)
    return tree


def _as_starts(starts: Any, logdensity: AbstractLogDensity) -> Vector:
    """Starts of shape (dim, chains), checked."""
    position = jnp.asarray(starts)
    if position.ndim != 2 or not jnp.issubdtype(position.dtype, jnp.floating):
        raise ValueError(
            f"starts must be floating and of shape (dim, chains), chains last, got {position.dtype} of {position.shape}"
        )
    try:
        jax.eval_shape(users(logdensity), jax.ShapeDtypeStruct(position.shape, position.dtype))
    except Exception as error:  # whatever a foreign log density raises at a position of the wrong size
        raise ValueError(f"starts of shape {position.shape} do not fit the log density, {error}") from error
    return position


def to_datatree(draws: _sample.Draws, logdensity: AbstractLogDensity, **attributes: Any) -> "xarray.DataTree":
    """Draws as an ArviZ DataTree, positions and log densities in the user's coordinates; imports ArviZ on first use."""
    record = draws.record
    position, lp = drawn_to_user(logdensity, record.position, record.lp)
    stats = {name: value for name, value in record._asdict().items() if name != "position"} | {"lp": lp}
    for name in ("accepted", "diverging"):
        if stats[name].max(initial=0) <= 1:
            stats[name] = stats[name].astype(bool)
    attributes |= {
        "num_gradients": draws.num_gradients,
        "sampling_time": draws.seconds,
        "compile_seconds": draws.compile_seconds,
        "completed": int(draws.completed),
        "warnings": "\n".join(health(*_sample.health_arrays(record), thin=draws.thin, logdensity=record.lp)),
    }
    return to_tree(users(logdensity), position, stats, attributes)


def to_tree(
    logdensity: AbstractLogDensity, position: np.ndarray, stats: dict[str, np.ndarray], attributes: dict[str, Any]
) -> "xarray.DataTree":
    """Positions (chains, draws, dim) of the user's ``logdensity`` and their statistics as an ArviZ DataTree."""
    import arviz as az

    attrs = {f"{name}_version": version for name, version in versions().items()} | attributes
    attrs["inference_library"] = "capriole"
    groups = {"posterior": named_arrays(logdensity, position)} | ({"sample_stats": stats} if stats else {})
    tree = az.from_dict(groups)
    for group in groups:
        tree[group].attrs.update(attrs)
    return tree


def prepare(
    logdensity: Any, init: Any, key: Key, *, num_chains: int, spread: float, num_more: int = 0
) -> tuple[AbstractLogDensity, Vector]:
    """The checked log density in the library's layout and checked starting positions of shape (dim, chains).

    ``num_more`` further ones, which nobody has checked, follow them.
    """
    num_chains, spread = check_count("num_chains", num_chains, 1), check_spread(spread)
    if init is None:
        if not isinstance(logdensity, AbstractLogDensity) or not hasattr(logdensity, "start"):
            raise ValueError("pass init, one position of the log density, e.g. init=jnp.zeros(3)")
        if spread != 1:
            raise ValueError(f"the target has starts of its own, so spread={spread:g} has no effect: pass init with it")
        target, every = logdensity, logdensity.start(key, num_chains + num_more)
    else:
        target, flat = as_logdensity(logdensity, init)
        check_logdensity(target, flat)
        every = flat[:, None] + spread * jax.random.normal(key, (num_chains + num_more, flat.size), flat.dtype).T
    position = jnp.asarray(np.asarray(every)[:, :num_chains])
    check_dtype(target, position)
    check_starts(state_at(target, position))
    return target, every


def as_key(seed: Any) -> Key:
    """A typed PRNG key from an integer seed; a key is returned as it is. Raises ValueError for anything else."""
    if isinstance(seed, int | np.integer) and -(2**63) <= seed < 2**63:
        return jax.random.key(seed)
    try:
        one = jax.random.key_data(seed).ndim == 1
    except (TypeError, ValueError):
        one = False
    if not one:
        raise ValueError(f"seed must be a whole number below 2^63 or one key, e.g. jax.random.key(0), got {seed!r:.80}")
    return seed
