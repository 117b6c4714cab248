"""A small classifier of digits, the judge of in-painted images."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from capriole.kernels import Key

from .._model import Feedforward, Images
from .._schemes import binarise
from ..files._data import Dataset

WIDTH, BATCH = 128, 100
OPTIMIZER = optax.adam(2e-3)


class Classifier(eqx.Module):
    """Class probabilities of images: two hidden layers of softplus units and a softmax."""

    network: Feedforward

    def __call__(self, images: Images) -> Float[Array, "classes *images"]:
        """Log probabilities."""
        return jax.nn.log_softmax(self.network(images), axis=0)


class TrainedClassifier(NamedTuple):
    """A classifier and its accuracy on binarised test images."""

    classifier: Classifier
    accuracy: float


def train_classifier(key: Key, data: Dataset, *, num_epochs: int = 10) -> TrainedClassifier:
    """Adam on the cross-entropy of binarised training images, binarised anew for every batch."""
    init_key, order_key, binary_key, test_key = jax.random.split(key, 4)
    num_classes = int(data.train_labels.max()) + 1
    sizes = (data.train.shape[0], WIDTH, WIDTH, num_classes)
    classifier = Classifier(Feedforward(init_key, sizes))
    opt_state = OPTIMIZER.init(eqx.filter(classifier, eqx.is_inexact_array))
    pixels, labels = jnp.asarray(data.train), jnp.asarray(data.train_labels)
    for e in range(num_epochs):
        classifier, opt_state = _epoch(
            order_key, binary_key, classifier, opt_state, pixels, labels, jnp.asarray(e)
        )
    seen = jnp.argmax(classifier(binarise(test_key, jnp.asarray(data.test))), axis=0)
    return TrainedClassifier(classifier, float(np.mean(np.asarray(seen) == data.test_labels)))


@eqx.filter_jit
def _epoch(
    order_key: Key,
    binary_key: Key,
    classifier: Classifier,
    opt_state: optax.OptState,
    pixels: Array,
    labels: Array,
    e: Array,
) -> tuple[Classifier, optax.OptState]:
    """One pass over the images in an order of its own."""
    order = jax.random.permutation(jax.random.fold_in(order_key, e), labels.shape[0])
    size = min(BATCH, labels.shape[0])
    batches = order[: labels.shape[0] // size * size].reshape(-1, size)
    arrays, static = eqx.partition((classifier, opt_state), eqx.is_array)

    def body(arrays: Array, chosen: Array) -> tuple[Array, None]:
        classifier, opt_state = eqx.combine(arrays, static)
        image_key = jax.random.fold_in(binary_key, e * labels.shape[0] + chosen[0])
        images = binarise(image_key, jnp.take(pixels, chosen, axis=1))
        grads = eqx.filter_grad(lambda c: -jnp.mean(c(images)[labels[chosen], jnp.arange(size)]))(
            classifier
        )
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return eqx.filter((eqx.apply_updates(classifier, updates), opt_state), eqx.is_array), None

    arrays, _ = jax.lax.scan(body, arrays, batches)
    return eqx.combine(arrays, static)
