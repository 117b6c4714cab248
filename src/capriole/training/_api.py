"""``capriole.train``: from a log density to a trained kernel."""

import logging
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from ..diagnostics import training_health
from ..kernels import Key, Transition, learned_leapfrog
from ..models import Model, ModelError, as_model, check_count, trainable
from ..runtime import Devices, Progress, computes_in_precision, entry_point, shows_progress
from ..sampling import as_key, prepare, run_hmc_warmup
from ._loop import TrainResult
from ._objectives import AbstractObjective, LogESJD
from ._restarts import Trainer, on_these_devices, train_best
from ._schedules import adam, cooling, decay
from ._step import Recipe

log = logging.getLogger("capriole")

COOLED = 0.7
"""Fraction of the iterations after which the temperature is 1."""
CANDIDATE_SHARE = 4
"""Each of several candidates trains for one in so many of the iterations."""
WIDTHS = (10, 100)
"""Smallest and largest default width of the networks: the paper's for 2 and for 50 dimensions."""
ACCEPTANCE_WEIGHT, CEILING = 3.0, 2.1
"""`LogESJD` by default: acceptance counts, and draws need not be better than independent."""


@entry_point
@shows_progress
@computes_in_precision
def train(
    logdensity: Callable | Model,
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
    precision: str = "float64",
    devices: Devices | None = None,
    progress: Callable[[Progress], Any] | bool | None = None,
    resume: Trainer | None = None,
) -> TrainResult:
    """Train a learned leapfrog on a log density and return the frozen kernel with its history.

    Chains start at ``init + spread * N(0, I)``. A short run of plain HMC finds the typical set, the
    step size and the scales for the objective; then the kernel is trained. If the log density has
    no second derivative, training holds its force constant, and the log says so; the kernel stays
    exact.

    Args:
        logdensity: maps one position (a pytree of arrays like ``init``) to its unnormalised log
            density, a scalar; or a model, such as `capriole.from_numpyro` makes, or a model of
            PyMC or BridgeStan; or a log density of this library.
        init: one position. None: that of the model, or the log density has starts of its own.
        seed: a whole number or a random key.
        num_leapfrogs: M, leapfrog steps per proposal.
        width: hidden units per layer of the networks; None: 2 dim, between 10 and 100.
        step_size: step size at the start of training; None: that of plain HMC.
        num_steps: training iterations.
        num_chains: chains that are trained on.
        num_candidates: kernels that are trained for a quarter of the iterations first; the best one
            continues. Helps where training settles in a poor kernel.
        learning_rate: of Adam; it decays over the last 40 % of the iterations.
        objective: what to minimise; None: `LogESJD`.
        start_temperature: above 1, the density is flattened at first and cooled over the first 70 %
            of the iterations, for targets with several modes (with ``spread`` wide enough to reach
            them).
        spread: standard deviation of the starts around ``init``, in its units.
        precision: "float64" or "float32", of all numbers and of the kernel. JAX's setting
            ``jax_enable_x64`` does not matter and does not change.
        devices: devices to divide the chains evenly over, for example ``jax.devices()``.
        progress: called after every chunk; it may return True to stop. None: a bar where stderr is
            a terminal, or in a notebook; False: nothing; True: a bar.
        resume: stores checkpoints and continues from them: `capriole.runs.CheckpointedTrainer`,
            which takes ``devices`` itself.

    Returns:
        The kernel, its history, and what both cost.

    Raises:
        TrainingDivergedError: training collapses and does not recover.
        ValueError: an argument, the log density or ``init`` cannot be used; the message says why.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, Generalizing Hamiltonian Monte Carlo with Neural
        Networks.
    """
    if resume is not None and devices is not None:
        raise ValueError(
            "devices has no effect together with resume; give it to "
            "CheckpointedTrainer(devices=...)"
        )
    key = as_key(seed)
    num_leapfrogs, num_steps = (
        check_count("num_leapfrogs", num_leapfrogs, 1),
        check_count("num_steps", num_steps, 1),
    )
    num_candidates = check_count("num_candidates", num_candidates, 1)
    if not 0 < start_temperature < 1e300:
        raise ValueError(
            f"start_temperature must be positive and finite, got {start_temperature} (1: the "
            "target)"
        )
    logdensity = as_model(logdensity)
    if isinstance(logdensity, Model) and logdensity.double and precision == "float32":
        raise ModelError(f"a model of {logdensity.library} needs float64: leave out precision")
    start_key, pilot_key, build_key, train_key = jax.random.split(key, 4)
    target, position = prepare(logdensity, init, start_key, num_chains=num_chains, spread=spread)
    training_target, smooth = trainable(target, position[:, 0])
    if not smooth:
        log.warning(
            "the log density has no second derivative: training holds its force constant (the "
            "kernel is exact)"
        )
    warmup = run_hmc_warmup(pilot_key, target, position, num_leapfrogs=num_leapfrogs)
    dim = position.shape[0]
    candidates = [
        learned_leapfrog(
            jax.random.fold_in(build_key, i),
            dim=dim,
            num_leapfrogs=num_leapfrogs,
            step_size=float(warmup.step_size) if step_size is None else step_size,
            width=min(max(WIDTHS[0], 2 * dim), WIDTHS[1]) if width is None else width,
            dtype=position.dtype,
        )
        for i in range(num_candidates)
    ]
    recipe = Recipe(
        objective=LogESJD(
            warmup.mean, warmup.variance, acceptance=ACCEPTANCE_WEIGHT, ceiling=CEILING
        )
        if objective is None
        else objective,
        optimizer=adam(decay(learning_rate, num_steps=num_steps)),
        temperature=cooling(start_temperature, num_steps=int(COOLED * num_steps))
        if start_temperature != 1
        else None,
    )
    result = train_best(
        train_key,
        [Transition(training_target, dynamics) for dynamics in candidates],
        warmup.state.position,
        recipe,
        num_steps=num_steps,
        candidate_steps=max(1, num_steps // CANDIDATE_SHARE),
        progress=progress,  # type: ignore[arg-type]  # `shows_progress` makes a callback of it
        trainer=on_these_devices(devices) if resume is None else resume,
    )
    for warning in training_health(
        *(result.history[name] for name in ("loss", "acceptance_rate", "is_skipped"))
    ):
        log.warning("training: %s", warning)
    return result._replace(
        transition=eqx.tree_at(lambda t: t.logdensity, result.transition, target),
        num_gradients=result.num_gradients + warmup.num_gradients,
    )
