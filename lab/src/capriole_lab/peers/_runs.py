"""Runs of the peers bench: `capriole.fit` and the peers, from the same starts, in one form."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from capriole import diagnostics
from capriole.diagnostics import RHAT_LIMIT
from capriole.fitting import EXPLORATORY_RATIO, Fit, fit
from capriole.kernels import Key, Scalar, Vector
from capriole.runtime import CompileClock, OnProgress
from capriole.sampling import sample

from ..baselines import run_peer
from ..targets import AbstractTarget
from ._settings import OURS, PeersSettings

LONGER = (4, 16)
"""How many times as long a run may be made if R-hat fails; `capriole.fit` does the same."""

_STARTS, _SAMPLER, _ONE_MODE = 11, 12, 13
_MOST_STARTS = 64


class BenchRun(NamedTuple):
    """Kept draws (chains, draws, dim) of a sampler and all that was spent, over all chains.

    ``num_gradients`` and ``seconds`` are those of sampling; ``prepared_*`` those of everything
    before the first kept draw: warm-up, search, training, comparison, discarded runs.
    ``compile_seconds`` are apart from both. ``steps`` is the length of a chain, ``thin`` times the
    kept draws.
    """

    position: np.ndarray
    steps: int
    num_gradients: int
    seconds: float
    prepared_gradients: int
    prepared_seconds: float
    compile_seconds: float
    acceptance_rate: float
    settings: dict[str, Any]


class Started(AbstractTarget):
    """A target whose starts are those of the bench at one seed, whatever the key."""

    inner: AbstractTarget
    positions: Vector
    dim: int = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """The target's log density."""
        return self.inner(position)

    def start(self, key: Key, num: int) -> Vector:
        """The first ``num`` starts of a sampler; those beyond 64 are exploratory."""
        return jnp.asarray(np.asarray(self.positions)[:, :num])


def started(target: AbstractTarget, seed: int) -> Started:
    """``target`` with its starts at ``seed``, made before any clock runs."""
    key = _key(seed, _STARTS)
    first, more = (
        target.start(key, _MOST_STARTS),
        target.start(jax.random.fold_in(key, 1), EXPLORATORY_RATIO * _MOST_STARTS),
    )
    return Started(inner=target, positions=jnp.concatenate([first, more], axis=1), dim=target.dim)


def run_sampler(
    sampler: str,
    target: AbstractTarget,
    seed: int,
    settings: PeersSettings,
    progress: OnProgress = None,
) -> tuple[BenchRun, Fit | None]:
    """``sampler`` from the target's own over-dispersed starts; and the `Fit` if it is capriole."""
    same = started(target, seed)
    if sampler == OURS:
        return run_fit(same, seed, settings, progress)
    starts = same.start(_key(seed, _STARTS), settings.chains(sampler))
    run = peer_run(
        sampler, _key(seed, _SAMPLER), target, starts, settings, num_draws=settings.num_draws
    )
    length = 1
    while (longer := _longer(run, length, settings)) > length:
        length = longer
        key = jax.random.fold_in(_key(seed, _SAMPLER), length)
        run = peer_run(
            sampler, key, target, starts, settings, num_draws=length * settings.num_draws
        )
    return run, None


def _longer(run: BenchRun, length: int, settings: PeersSettings) -> int:
    """How many times as long as at first a run is to be made that has ``length`` now; that again to
    leave it so.

    R-hat - 1 falls in proportion to the length once chains mix; twice the hoped-for value is given
    a chance.
    """
    excess = float(np.max(diagnostics.rhat(run.position[..., : settings.coordinates]))) - 1
    if excess < RHAT_LIMIT - 1:
        return length
    for longer in LONGER:
        times = longer / length
        if times <= 1:
            continue
        if (
            times * run.num_gradients > settings.max_gradients
            or times * run.position.size > settings.max_values
        ):
            return length
        if excess / times < 2 * (RHAT_LIMIT - 1):
            return longer
    return length


def peer_run(
    name: str,
    key: Key,
    target: AbstractTarget,
    starts: Vector,
    settings: PeersSettings,
    *,
    num_draws: int,
    draw_from: Vector | None = None,
) -> BenchRun:
    """A peer with its own adaptation."""
    length = {"num_draws": num_draws, "num_warmup": settings.num_warmup}
    draws = run_peer(name, key, target, starts, draw_from=draw_from, **length)
    return BenchRun(
        position=draws.position,
        steps=num_draws,
        num_gradients=draws.num_gradients,
        seconds=draws.seconds,
        prepared_gradients=draws.warmup_gradients,
        prepared_seconds=draws.warmup_seconds,
        compile_seconds=draws.compile_seconds,
        acceptance_rate=draws.acceptance_rate,
        settings=draws.settings
        | {"divergences": draws.divergences, "num_warmup": settings.num_warmup},
    )


def run_fit(
    target: Started, seed: int, settings: PeersSettings, progress: OnProgress = None
) -> tuple[BenchRun, Fit]:
    """`capriole.fit` with default settings but for chains, draws and training steps."""
    import arviz  # noqa: F401  # peers' libraries are imported before their clocks run, too

    with CompileClock() as clock:
        result = fit(
            target,
            seed=seed,
            num_chains=settings.chains(OURS),
            num_draws=settings.num_draws,
            train_steps=settings.train_steps,
            precision=settings.dtype,
            on_failure="ignore",
            progress=progress,
        )
    attributes = result.tree["posterior"].attrs
    thin = int(result.verdict.settings.get("thin", 1))
    position = np.asarray(result.tree["posterior"]["x"].values)
    num_gradients, seconds = int(attributes["num_gradients"]), float(attributes["sampling_time"])
    row = result.verdict.row(result.verdict.chosen)
    after = _after_the_draws(result)
    checking = float(
        result.verdict.settings.get("seconds_after_the_draws", 0.0)
    )  # as R-hat of peers' draws is checked
    run = BenchRun(
        position=position,
        steps=thin * position.shape[1],
        num_gradients=num_gradients,
        seconds=seconds,
        prepared_gradients=_prepared(result),
        prepared_seconds=max(clock.seconds - seconds - after["seconds"] - checking, 0.0),
        compile_seconds=clock.compile_seconds - after["compile_seconds"],
        acceptance_rate=float("nan") if row is None else row.acceptance_rate,
        settings={"thin": thin} | result.verdict.as_dict(),
    )
    return run, result


def _after_the_draws(result: Fit) -> dict[str, float]:
    """Cost of the comparison with NUTS where it came after the draws."""
    compared = result.verdict.settings["comparison"]
    return dict.fromkeys(compared, 0.0) if compared["decided"] else compared


def _prepared(result: Fit) -> int:
    """Gradients of `fit` before the first kept draw: warm-up, search, runs given up."""
    settings = result.verdict.settings
    before = settings["comparison"]["num_gradients"] - _after_the_draws(result)["num_gradients"]
    return int(
        settings["preparation"]["num_gradients"]
        + before
        + settings["final_warmup"]["num_gradients"]
    )


def run_one_mode(
    sampler: str, target: Any, seed: int, settings: PeersSettings, run: BenchRun, fitted: Fit | None
) -> np.ndarray:
    """Draws with every chain started in mode 0: of the frozen kernel of ``fitted``, or of a peer
    that adapts there.

    A `fit` that chose NUTS has no kernel, and is represented by NUTS with a dense metric. flowMC's
    flow learns where the mass is, so it is trained from the dispersed starts, as `fit` is, and its
    chains are put into mode 0 after that.
    """
    key = _key(seed, _ONE_MODE)
    starts = target.sample_mode(jax.random.fold_in(key, 1), settings.chains(sampler), 0)
    if fitted is not None and fitted.transition is not None:
        thin = run.steps // run.position.shape[1]
        tree = sample(
            fitted.transition,
            starts=starts.T,
            seed=jax.random.fold_in(key, 2),
            num_draws=settings.num_draws,
            thin=thin,
        )
        return np.asarray(tree["posterior"]["x"].values)
    if sampler == "flowmc":
        dispersed = started(target, seed).start(_key(seed, _STARTS), settings.chains(sampler))
        return peer_run(
            sampler,
            _key(seed, _SAMPLER),
            target,
            dispersed,
            settings,
            num_draws=run.steps,
            draw_from=starts,
        ).position
    name = "nuts-dense" if sampler == OURS else sampler
    return peer_run(
        name, jax.random.fold_in(key, 2), target, starts, settings, num_draws=run.steps
    ).position


def _key(seed: int, purpose: int) -> Key:
    return jax.random.fold_in(jax.random.key(seed), purpose)
