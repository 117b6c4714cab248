"""Where training starts when plain HMC is a bad place: networks that already hold a good kernel."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._dynamics import LearnedLeapfrog
from ._networks import MLP

_SUPPRESSION = 12.0


def surrogate_force(
    dynamics: LearnedLeapfrog, *, mean: Float[Array, " dim"], variance: Float[Array, " dim"]
) -> LearnedLeapfrog:
    """The same dynamics whose kicks start with the force of N(mean, diag variance) in place of the
    gradient::

        grad exp(eps Q) + T  ~  exp(-12) grad - (x - mean) / variance

    For targets whose gradient is mostly noise (rough wells): Q may switch the gradient off, and T,
    which sees x, can supply another force. Exact like every setting of the networks; training goes
    on from here. Raises ValueError unless the momentum network is an `MLP` of width at least 2 dim.
    """
    network, dim = dynamics.momentum_network, mean.shape[0]
    if not isinstance(network, MLP) or network.hidden.shape[0] < 2 * dim:
        raise ValueError(
            f"a surrogate force needs an MLP of width at least {2 * dim} as momentum network"
        )
    scale, units = jnp.sqrt(variance), slice(0, 2 * dim)
    eye = jnp.eye(dim, dtype=mean.dtype)
    pair = jnp.concatenate([eye, -eye])  # relu(a) - relu(-a) = a
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
            network.inputs.at[:, dim : 2 * dim]
            .multiply(0.01)
            .at[units]
            .set(first),  # deaf to the noise
            network.inputs_bias.at[units].set(-pair @ (mean / scale)),
            network.hidden.at[units].set(hidden),
            network.heads.at[2 * dim :].set(force),
            network.heads_bias.at[dim : 2 * dim].set(-3.0),
            network.log_bound.at[dim:].set(jnp.log(_SUPPRESSION / kick_size)),
        ),
    )
    return eqx.tree_at(lambda d: d.momentum_network, dynamics, network)
