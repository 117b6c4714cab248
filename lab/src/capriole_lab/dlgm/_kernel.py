"""The learned kernel on latents, conditional on the image."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capriole.kernels import (
    MLP,
    SQT,
    AbstractNetwork,
    Key,
    LearnedLeapfrog,
    Vector,
    draw_masks,
    linear,
)

from ._model import Feedforward


class ImageNetwork(AbstractNetwork):
    """The paper's network with an embedding of the image as one more summand of the first layer::

        h1 = relu(W1 first + W2 second + W3 time + embedding(image) + b1),  then as in `MLP`

    The embedding (three layers of softplus units, the last linear) runs once per trajectory.
    Source: Levy et al. 2018, section 5.2.
    """

    core: MLP
    embedding: Feedforward

    def embed(self, context: Vector | None) -> Vector | None:
        """Embedded images, shape ``(width, *chains)``. Raises ValueError without a context."""
        if context is None:
            raise ValueError(
                "this kernel is conditional on images; give its Transition context=images"
            )
        return self.embedding(context)

    def __call__(
        self, first: Vector, second: Vector, time: Float[Array, "2 *chains"], context: Any = None
    ) -> SQT:
        """S, Q, T of shape ``(dim, *chains)`` each."""
        inputs = jnp.concatenate([first, second, time])
        return self.core.upper(linear(self.core.inputs, self.core.inputs_bias, inputs) + context)


def image_leapfrog(
    key: Key,
    *,
    latent: int,
    pixels: int,
    num_leapfrogs: int = 5,
    step_size: float | tuple[float, float] = 0.1,
    width: int = 200,
    embedding: int = 512,
    dtype: Any = jnp.float32,
) -> LearnedLeapfrog:
    """An untrained learned leapfrog on latents with image embeddings; close to HMC with the same
    step size.

    A pair of step sizes, for kicks and drifts, is trained as two (see `rotation_step_sizes`).
    """
    if num_leapfrogs < 1 or not jnp.all(jnp.asarray(step_size) > 0):
        raise ValueError(
            f"num_leapfrogs and step_size must be positive, got {num_leapfrogs} and {step_size}"
        )

    dtype = jnp.dtype(dtype)

    def network(key: Key, second_scale: float) -> ImageNetwork:
        core_key, embedding_key = jax.random.split(key)
        core = MLP(core_key, dim=latent, width=width, second_scale=second_scale, dtype=dtype)
        return ImageNetwork(
            core, Feedforward(embedding_key, (pixels, embedding, embedding, width), dtype=dtype)
        )

    momentum_key, position_key, mask_key = jax.random.split(key, 3)
    return LearnedLeapfrog(
        momentum_network=network(momentum_key, 1.0),
        position_network=network(position_key, 2.0),
        log_step_size=jnp.log(jnp.asarray(step_size, dtype)),
        masks=draw_masks(mask_key, num_leapfrogs=num_leapfrogs, dim=latent),
    )
