"""A kernel as BlackJAX's ``SamplingAlgorithm``."""

from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..coordinates import from_user, maps, state_to_user, users
from ..kernels import AbstractTransition, ChainState, Flag, Key, Scalar
from ..models import as_logdensity, leaf_names

if TYPE_CHECKING:
    from blackjax.base import SamplingAlgorithm


class LoopState(NamedTuple):
    """A chain's state in BlackJAX's names.

    Attributes:
        position: in the user's coordinates, a pytree like ``init``.
        logdensity: the user's log density there.
        kernel_state: the kernel's own state, in its own coordinates.
    """

    position: Any
    logdensity: Scalar
    kernel_state: ChainState


class LoopInfo(NamedTuple):
    """What a step did, in BlackJAX's names.

    Attributes:
        acceptance_rate: acceptance probability.
        is_accepted: whether the proposal was accepted.
        is_divergent: whether it was divergent.
        energy: minus the log joint density at the start of the step, in the kernel's coordinates.
        num_integration_steps: gradients of the log density.
    """

    acceptance_rate: Scalar
    is_accepted: Flag
    is_divergent: Flag
    energy: Scalar
    num_integration_steps: jax.Array


def as_blackjax(transition: AbstractTransition, init: Any) -> "SamplingAlgorithm":
    """A kernel for BlackJAX's loops: one chain, over pytrees, in the user's coordinates.

    For many chains map ``init`` and ``step`` with ``jax.vmap``, as for BlackJAX's own algorithms.
    Nothing adapts: start near the posterior, or leave out the first draws.

    Args:
        transition: a frozen kernel, such as ``capriole.fit(...).transition``.
        init: one position, a pytree as `capriole.fit` took it; its numbers do not matter.

    Returns:
        ``blackjax.base.SamplingAlgorithm``. ``init`` gives a `LoopState`, ``step`` a `LoopState`
        and a `LoopInfo`.

    Raises:
        ValueError: ``init`` is no position of the kernel's log density, or the kernel needs
            float64 where JAX has float32.
    """
    from blackjax.base import SamplingAlgorithm

    target, dtype = transition.target, _dtype(transition)
    flat, unravel = _checked(transition, init, dtype)
    known = _shapes(unravel(flat))

    def outside(inner: ChainState) -> LoopState:
        position, lp = state_to_user(target, inner.position, inner.logdensity)
        return LoopState(unravel(position), lp, inner)

    def start(position: Any, rng_key: Key | None = None) -> LoopState:
        leaves = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), position)
        if _shapes(leaves) != known:
            raise ValueError(
                f"a position must have the variables of init, {known}, got {_shapes(leaves)}"
            )
        x, _ = ravel_pytree(leaves)
        return outside(transition.init(from_user(target, x), rng_key))

    def step(rng_key: Key, state: LoopState) -> tuple[LoopState, LoopInfo]:
        inner, info = transition.move(rng_key, state.kernel_state)
        return outside(inner), LoopInfo(
            acceptance_rate=info.acceptance_rate,
            is_accepted=info.is_accepted,
            is_divergent=info.is_divergent,
            energy=info.energy,
            num_integration_steps=info.num_gradients,
        )

    return SamplingAlgorithm(start, step)


def _checked(transition: AbstractTransition, init: Any, dtype: Any) -> tuple[jax.Array, Any]:
    """``init`` as a flat vector, and the way back; refuses one of another log density."""
    user = users(transition.target)
    as_logdensity(user, init)
    leaves = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), init)
    flat, unravel = ravel_pytree(leaves)
    given = _shapes(leaves)
    try:
        jax.eval_shape(lambda x: transition.init(from_user(transition.target, x)), flat)
        known = _shapes(jax.eval_shape(getattr(user, "unravel", lambda x: x), flat))
    except Exception as error:  # a user's log density may raise anything at the wrong size
        raise ValueError(
            f"init, {given}, is no position of the kernel's log density: {error}"
        ) from error
    if given != known:
        raise ValueError(
            f"init must have the variables of the kernel's log density, {known}, got {given}"
        )
    return flat, unravel


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    return dict(zip(leaf_names(tree), shapes, strict=True))


def _dtype(transition: AbstractTransition) -> Any:
    """The kernel's precision: of its maps, or else of its own numbers."""
    arrays = jax.tree.leaves(eqx.filter(maps(transition.target), eqx.is_inexact_array))
    arrays = arrays or jax.tree.leaves(eqx.filter(transition, eqx.is_inexact_array))
    dtype = arrays[0].dtype if arrays else jnp.result_type(float)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"the kernel computes in {dtype}, and JAX is set to float32: call as_blackjax and the "
            "loop inside `with jax.enable_x64(True):`, or set jax_enable_x64 first"
        )
    return dtype
