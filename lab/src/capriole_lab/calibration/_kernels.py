"""The kernels that are examined: trained here and now, twice."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from capriole.fitting import fit, hmc_move
from capriole.kernels import AbstractTransition, Key, Mixture, Transition, learned_leapfrog
from capriole.runtime import OnProgress
from capriole.sampling import run_hmc_warmup
from capriole.training import LogESJD, Recipe, adam, decay, train, train_kernel

from ..targets import AbstractExactTarget, Banana, Funnel, mog
from ._models import AbstractModel, Hierarchy, LogisticModel, NormalModel, Posterior
from ._settings import CalibrateSettings


class Trained(NamedTuple):
    """A frozen kernel, what it is in words, and what its training took."""

    kernel: AbstractTransition
    words: str
    seconds: float


def make_subject(name: str) -> AbstractExactTarget | AbstractModel:
    """The target or model called ``name``."""
    makers: dict[str, Callable[[], Any]] = {
        "banana": Banana,
        "mog": mog,
        "funnel": partial(Funnel, dim=3, scale=1.0),
        "normal": NormalModel,
        "hierarchy": Hierarchy,
        "logistic": LogisticModel,
    }
    return makers[name]()


def make_kernel(
    name: str, subject: Any, key: Key, settings: CalibrateSettings, progress: OnProgress = None
) -> Trained:
    """Train the kernel for a subject."""
    begin = time.perf_counter()
    if name in ("funnel", "logistic"):
        kernel, words = _fitted(subject, key, settings, progress)
    elif isinstance(subject, AbstractModel):
        kernel, words = _for_many_sets(subject, key, settings, progress)
    else:
        kernel, words = _front_door(name, subject, key, settings, progress)
    return Trained(kernel, words, time.perf_counter() - begin)


def _front_door(
    name: str, target: AbstractExactTarget, key: Key, s: CalibrateSettings, progress: OnProgress
) -> tuple[AbstractTransition, str]:
    """`capriole.train`; where there are modes, cooled and mixed with plain HMC moves."""
    options: dict[str, Any] = {
        "num_leapfrogs": 4,
        "num_steps": s.train_steps,
        "num_chains": s.train_chains,
    }
    if name != "mog":
        learned = train(target, seed=key, progress=progress, **options).transition
        return learned, "L2HMC"
    options |= {"start_temperature": 10.0, "step_size": 0.1}
    learned = train(target, seed=key, progress=progress, **options).transition
    return _with_hmc(learned, 0.3), "L2HMC and plain HMC moves"


def _with_hmc(kernel: AbstractTransition, step_size: float, share: float = 0.2) -> Mixture:
    return Mixture((kernel, hmc_move(step_size, kernel.target)), (1 - share, share))


def _fitted(
    subject: Any, key: Key, s: CalibrateSettings, progress: OnProgress
) -> tuple[AbstractTransition, str]:
    """`capriole.fit`, of a model on one of its data sets; others get the same kernel."""
    data_key, fit_key = jax.random.split(key)
    target, words, share = subject, "on this target", 0.0
    if isinstance(subject, AbstractModel):
        _, data = subject.draw(data_key, 1)
        # Its choice alone accepted so little on other data sets that chains did not arrive: exact,
        # but useless there.
        target, words, share = Posterior(subject, data[:, 0], jnp.ones(())), "on one data set", 0.5
    options: dict[str, Any] = {
        "num_chains": 8,
        "num_draws": 250,
        "train_steps": s.fit_steps,
        "compare": False,
        "on_failure": "ignore",
    }
    found = fit(target, jnp.zeros(subject.dim), seed=fit_key, progress=progress, **options)
    if found.transition is None:
        raise ValueError("fit chose NUTS, which is not on trial here")
    words = f"capriole.fit's choice {words}: {found.verdict.chosen}, whitened"
    if not share:
        return found.transition, words
    step_size = found.verdict.settings["warmup"]["step_size"]
    return _with_hmc(found.transition, step_size, share), f"{words}; and as many plain HMC moves"


def _for_many_sets(
    model: AbstractModel, key: Key, s: CalibrateSettings, progress: OnProgress
) -> tuple[AbstractTransition, str]:
    """One learned kernel for all data sets, trained on as many of them as there are chains, and
    plain HMC moves.

    The normal model's networks see the data; the hierarchy's do not.
    """
    draw_key, pilot_key, build_key, train_key = jax.random.split(key, 4)
    sees_data = isinstance(model, NormalModel)
    position, data = model.draw(draw_key, s.train_chains)
    target = Posterior(model, data, jnp.ones(()))
    pilot = run_hmc_warmup(pilot_key, target, position, num_leapfrogs=4, keep_positions=True)
    # Scales within data sets: over all of them the variance is the prior's, which no jump need
    # reach.
    variance = jnp.mean(jnp.var(jnp.asarray(pilot.positions), axis=0), axis=-1)
    dynamics = learned_leapfrog(
        build_key,
        dim=model.dim,
        num_leapfrogs=4,
        step_size=float(pilot.step_size),
        width=24,
        context_dim=len(data) if sees_data else 0,
        squashed=True,
    )
    recipe = Recipe(
        LogESJD(pilot.mean, variance, squares=0.0, acceptance=1.0, ceiling=2.1),
        adam(decay(5e-3, num_steps=s.train_steps)),
    )
    start = Transition(target, dynamics, data if sees_data else None)
    options: dict[str, Any] = {"num_steps": s.train_steps, "progress": progress}
    learned = train_kernel(train_key, start, pilot.state.position, recipe, **options).transition
    # Plain HMC moves beside: a network alone left 1 % of data sets where its chain never moved,
    # exact but stuck.
    seeing = " and networks that see the data" if sees_data else ""
    words = f"L2HMC, trained on many data sets at once{seeing}, with plain HMC moves"
    return _with_hmc(learned, float(pilot.step_size)), words
