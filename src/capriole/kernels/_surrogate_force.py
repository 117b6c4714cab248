"""Initial weights for targets whose gradient is noise: kicks by the force of a Gaussian."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._dynamics import LearnedLeapfrog
from ._networks import MLP

_SUPPRESSION = 12.0
"""Nats by which the gradient starts scaled down.

exp(-12) = 6e-6 turns gradient noise of size 100 (the paper's rough wells) into 6e-4.
"""


def surrogate_force(
    dynamics: LearnedLeapfrog, *, mean: Float[Array, " dim"], variance: Float[Array, " dim"]
) -> LearnedLeapfrog:
    """The same dynamics with kicks that start with the force of N(mean, diag(variance))::

        grad exp(eps Q) + T  ~  exp(-12) grad - (x - mean) / variance

    For targets whose gradient is mostly noise, such as rough wells. Q suppresses the gradient, and
    T, which sees x, supplies the force. The kernel is exact, as for any weights, and training may
    continue from here.

    Args:
        dynamics: its momentum network is an `MLP` of width at least ``2 dim``.
        mean: mean of the Gaussian, shape ``(dim,)``.
        variance: its variances, shape ``(dim,)``.

    Returns:
        The dynamics with new weights in the momentum network.

    Raises:
        ValueError: if the momentum network is not such an `MLP`.
    """
    network, dim = dynamics.momentum_network, mean.shape[0]
    if not isinstance(network, MLP) or network.hidden.shape[0] < 2 * dim:
        raise ValueError(
            f"a surrogate force needs an MLP of width at least {2 * dim} as momentum network"
        )
    scale, units = jnp.sqrt(variance), slice(0, 2 * dim)
    eye = jnp.eye(dim, dtype=mean.dtype)
    # Two relus pass a value on unchanged: relu(a) - relu(-a) = a.
    pair = jnp.concatenate([eye, -eye])
    first = jnp.zeros_like(network.inputs[units]).at[:, :dim].set(pair / scale)
    hidden = (
        jnp.zeros_like(network.hidden[units]).at[:, units].set(jnp.eye(2 * dim, dtype=mean.dtype))
    )
    force = jnp.zeros_like(network.heads[2 * dim :]).at[:, units].set(-pair.T / scale[:, None])
    kick_size = jnp.exp(jnp.broadcast_to(dynamics.log_step_size, (2,))[0])
    network = eqx.tree_at(
        lambda n: (n.inputs, n.inputs_bias, n.hidden, n.heads, n.heads_bias, n.log_bound),
        network,
        (
            # The weights of the gradient start small, so that its noise hardly reaches S, Q and T.
            network.inputs.at[:, dim : 2 * dim].multiply(0.01).at[units].set(first),
            network.inputs_bias.at[units].set(-pair @ (mean / scale)),
            network.hidden.at[units].set(hidden),
            network.heads.at[2 * dim :].set(force),
            network.heads_bias.at[dim : 2 * dim].set(-3.0),
            network.log_bound.at[dim:].set(jnp.log(_SUPPRESSION / kick_size)),
        ),
    )
    return eqx.tree_at(lambda d: d.momentum_network, dynamics, network)
