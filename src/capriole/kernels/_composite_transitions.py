"""Transitions made of other transitions: jittered, repeated, mixed; and plain HMC."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity
from ._plain_dynamics import CrankNicolson, Leapfrog, Rotation
from ._transition import AbstractTransition, Transition
from ._types import ChainState, Info, Key, State, Vector


class Jittered(AbstractTransition):
    """A plain kernel with a random factor on its step size (or angle)::

        log factor ~ Uniform(log low, log high)

    The factor is drawn per chain and step. Jitter avoids the resonances of a fixed trajectory
    length. A wide range serves targets whose scales vary. The kernel is exact, because the factor
    does not depend on the state.

    Attributes:
        transition: kernel with `Leapfrog`, `Rotation` or `CrankNicolson` dynamics.
        low: smallest factor, positive.
        high: largest factor.

    Raises:
        ValueError: unless ``0 < low < high``.
        TypeError: if the dynamics has no step size or angle to scale.
    """

    transition: Transition
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Check the range of the factor and the kind of dynamics."""
        if not 0 < self.low < self.high:
            raise ValueError(
                f"the factor's range must satisfy 0 < low < high, got {self.low} and {self.high}"
            )
        if not isinstance(self.transition.dynamics, Leapfrog | Rotation | CrankNicolson):
            kind = type(self.transition.dynamics).__name__
            raise TypeError(f"only plain dynamics can be jittered, got {kind}")

    @property
    def target(self) -> AbstractLogDensity:
        """The log density of the inner kernel."""
        return self.transition.logdensity

    def init(self, position: Vector, rng_key: Key | None = None) -> State:
        """State at ``position``."""
        return self.transition.init(position, rng_key)

    def move(self, rng_key: Key, state: State) -> tuple[State, Info]:
        """One step with a newly drawn factor."""
        jitter_key, step_key = jax.random.split(rng_key)
        shape, dtype = state.logdensity.shape, state.logdensity.dtype
        exponent = jax.random.uniform(
            jitter_key, shape, dtype, math.log(self.low), math.log(self.high)
        )
        dynamics = self.transition.dynamics.scaled(jnp.exp(exponent))  # type: ignore[attr-defined]
        return eqx.tree_at(lambda t: t.dynamics, self.transition, dynamics).move(step_key, state)


class Repeated(AbstractTransition):
    """Several steps of a kernel that count as one. Training uses it; to thin draws use ``thin``.

    The record is that of the last step, except that gradients are summed, the acceptance rate is
    averaged, and the flags say whether any step was accepted or divergent.

    Attributes:
        transition: the kernel.
        num_steps: number of steps, at least 1.

    Raises:
        ValueError: if ``num_steps`` is below 1.
    """

    transition: AbstractTransition
    num_steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Check the number of steps."""
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    @property
    def target(self) -> AbstractLogDensity:
        """The log density of the repeated kernel."""
        return self.transition.target

    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """State at ``position``."""
        return self.transition.init(position, rng_key)

    def move(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """``num_steps`` steps with independent keys."""
        first, *rest = jax.random.split(rng_key, self.num_steps)
        state, info = self.transition.move(first, state)
        infos = [info]
        for key in rest:
            state, info = self.transition.move(key, state)
            infos.append(info)
        every = jax.tree.map(lambda *values: jnp.stack(values), *infos)
        return state, info._replace(
            num_gradients=every.num_gradients.sum(axis=0),
            acceptance_rate=every.acceptance_rate.mean(axis=0),
            is_accepted=every.is_accepted.any(axis=0),
            is_divergent=every.is_divergent.any(axis=0),
        )


class Mixture(AbstractTransition):
    """A kernel that applies one of several kernels at each step, with fixed probabilities.

    It is exact if every part is exact. All chains of a step share the choice, so only one part
    runs.

    Attributes:
        transitions: the parts, all for the same log density in the same coordinates.
        probabilities: positive, with sum 1.

    Raises:
        ValueError: if the numbers do not agree, the probabilities are invalid, or the targets
            differ.
    """

    transitions: tuple[AbstractTransition, ...]
    probabilities: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Check the probabilities and that all parts share one target."""
        if len(self.transitions) != len(self.probabilities):
            raise ValueError(
                f"{len(self.transitions)} transitions but {len(self.probabilities)} probabilities"
            )
        if min(self.probabilities) <= 0 or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(
                f"probabilities must be positive and sum to 1, got {self.probabilities}"
            )
        others = [
            i for i, part in enumerate(self.transitions) if not _same(part.target, self.target)
        ]
        if others:
            raise ValueError(
                f"parts {others} of the mixture are for another target, or in other coordinates, "
                "than the first, so it "
                "would be for neither: make them for the first one's, e.g. hmc(kernel.target, ...)"
            )

    @property
    def target(self) -> AbstractLogDensity:
        """The log density that all parts share."""
        return self.transitions[0].target

    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """State at ``position``; the same for all parts."""
        return self.transitions[0].init(position, rng_key)

    def move(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """One step of a randomly chosen part."""
        choice_key, step_key = jax.random.split(rng_key)
        edges = jnp.cumsum(jnp.asarray(self.probabilities[:-1], state.logdensity.dtype))
        choice = jnp.sum(jax.random.uniform(choice_key, (), edges.dtype) >= edges)
        # lax.switch hashes its branches, and a bound method of a module with tracers has no hash.
        branches = [
            lambda key, state, part=part: part.move(key, state) for part in self.transitions
        ]
        return jax.lax.switch(choice, branches, step_key, state)


def _same(one: AbstractLogDensity, other: AbstractLogDensity) -> bool:
    """Whether two log densities have equal structure and numbers; traced values count as equal."""
    if one is other:
        return True
    trees: list[Any] = [jax.tree.structure(one), jax.tree.structure(other)]
    return trees[0] == trees[1] and all(map(_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _equal(one: Any, other: Any) -> bool:
    """Whether two leaves of a pytree are equal; a traced value equals every other."""
    if one is other or isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
        return True
    arrays = eqx.is_array_like(one) and eqx.is_array_like(other)
    return bool(np.array_equal(one, other)) if arrays else one == other


def hmc(
    logdensity: AbstractLogDensity,
    *,
    step_size: Array | float,
    num_leapfrogs: int,
    jitter: float = 0.0,
) -> AbstractTransition:
    """Plain HMC with unit mass.

    Args:
        logdensity: target log density.
        step_size: leapfrog step size.
        num_leapfrogs: leapfrog steps per proposal, at least 1.
        jitter: the step size is multiplied by a random factor from ``1 - jitter`` to ``1 +
            jitter``; 0 for a fixed step size.

    Returns:
        The kernel.

    Raises:
        ValueError: if the length is below 1 or ``jitter`` is outside ``[0, 1)``.
    """
    if num_leapfrogs < 1:
        raise ValueError(f"num_leapfrogs must be at least 1, got {num_leapfrogs}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be 0 or lie strictly between 0 and 1, got {jitter}")
    transition = Transition(logdensity, Leapfrog(jnp.asarray(step_size), num_leapfrogs))
    return Jittered(transition, 1 - jitter, 1 + jitter) if jitter else transition


def per_chain[T: AbstractTransition](transition: T, num_chains: int) -> T:
    """The same kernel with step sizes and angles of plain dynamics as arrays over chains.

    Kernels that differ only in these numbers then share one compiled program.

    Args:
        transition: the kernel.
        num_chains: length of the arrays.

    Returns:
        The kernel.
    """

    def over_chains(part: Any) -> Any:
        match part:
            case Leapfrog():
                return Leapfrog(jnp.broadcast_to(part.step_size, num_chains), part.num_leapfrogs)
            case Rotation():
                return Rotation(jnp.broadcast_to(part.angle, num_chains), part.num_leapfrogs)
            case CrankNicolson():
                return CrankNicolson(jnp.broadcast_to(part.angle, num_chains))
        return part

    return jax.tree.map(
        over_chains, transition, is_leaf=lambda part: isinstance(part, AbstractDynamics)
    )
