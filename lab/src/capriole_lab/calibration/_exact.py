"""The exact tests of Gandy and Scott (2020, arXiv:2001.06465)."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from capriole.kernels import AbstractTransition, ChainState, Key


@eqx.filter_jit
def reversible_path(
    key: Key,
    kernel: AbstractTransition,
    start: ChainState,
    place: Int[Array, " chains"],
    length: int,
) -> Float[Array, "length dim chains"]:
    """Stationary paths of which ``start``, an exact draw, is state number ``place``, 0 to length -
    1, chain by chain.

    From ``start`` the chain walks to the path's end and, as a reversible kernel may, to its
    beginning. If the kernel is reversible and exact, the path has the same distribution whatever
    the place: the rank of ``start`` among the states, by any statistic, is uniform (Besag and
    Clifford 1989). A `Mixture` chooses one kernel for all chains; here the choice belongs to the
    link between two states, so that given the choices the chains are independent.
    """

    def link(state: ChainState, number: Array, moves: Array) -> tuple[ChainState, Array]:
        new, _ = kernel.move(jax.random.fold_in(key, number), state)
        state = jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, state)
        return state, state.position

    def ahead(state: ChainState, number: Array) -> tuple[ChainState, Array]:
        return link(state, number, place <= number)

    def back(state: ChainState, number: Array) -> tuple[ChainState, Array]:
        return link(state, number, place > number)

    links = jnp.arange(length - 1)
    after = jax.lax.scan(ahead, start, links)[1]
    before = jax.lax.scan(back, start, links, reverse=True)[1]
    after = jnp.concatenate([start.position[None], after])
    before = jnp.concatenate([before, start.position[None]])
    return jnp.where(jnp.arange(length)[:, None, None] >= place, after, before)


class Sequential(NamedTuple):
    """The outcome of `sequential`: verdict, last p-values, stages and replicates taken."""

    passed: bool
    p_values: dict[str, float]
    num_stages: int
    num_replicates: int

    @property
    def smallest(self) -> float:
        """The smallest p-value of the last stage times their number: Bonferroni's."""
        return min(1.0, len(self.p_values) * min(self.p_values.values()))


def sequential(
    p_values: Callable[[int, int], dict[str, float]],
    *,
    level: float,
    first: int,
    stages: int = 7,
    growth: int = 4,
) -> Sequential:
    """Reject a correct kernel with probability at most ``level``, yet look closer where a first
    look is unclear::

        beta = level / stages,  gamma = beta^(1 / stages)
        q = (number of p-values) (smallest of them)
        reject if q <= beta;  pass if q > gamma + beta
        else beta <- beta / gamma, and again with new replicates

    ``p_values(stage, num)`` computes them from ``num`` fresh replicates: ``first``, later
    ``growth`` times as many. Source: Gandy and Scott 2020, Algorithm 3.
    """
    beta = level / stages
    gamma = beta ** (1 / stages)
    num = total = 0
    for stage in range(stages):
        num = first if stage == 0 else first * growth
        total += num
        outcome = Sequential(True, p_values(stage, num), stage + 1, total)
        if outcome.smallest <= beta:
            return outcome._replace(passed=False)
        if outcome.smallest > gamma + beta:
            break
        beta /= gamma
    return outcome
