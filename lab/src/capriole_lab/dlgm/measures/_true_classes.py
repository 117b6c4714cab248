"""In-painting against the classes that an image has under the model, as a long exact run with many
chains finds them.

A sampler that is wrong sees classes too. The count of `mixing` takes them all; here those that the
model gives the image are told from those that it does not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from capriole.kernels import Key

from .._model import Images
from .._schemes import Model
from ..report._words import mean_and_se
from ._ais import plan_ais, weighted_draws
from ._classify import Classifier
from ._evaluate import OnProgress
from ._inpaint import (
    CONFIDENT,
    VISITED,
    Inpainted,
    class_shares,
    fill_in,
    inpaint,
    kept_likelihood,
    mean_and_error,
)

AMBIGUOUS = 0.9
"""An image is ambiguous if no class has as much of the reference's draws."""


class ClassShares(NamedTuple):
    """Shares of an image's draws: of ``every`` draw, and of those that are ``sure``."""

    every: Float[np.ndarray, "images classes"]
    sure: Float[np.ndarray, "images classes"]


class Reference(NamedTuple):
    """Class shares over all chains, and total variation between their halves, per image."""

    shares: ClassShares
    error: Float[np.ndarray, " images"]


class Count(NamedTuple):
    """What is counted: a class is true from ``threshold`` on, visited from ``visited``."""

    words: str
    threshold: float = 0.01
    visited: float = VISITED
    sure: bool = False
    ambiguous: bool = False


COUNTS = {
    "true": Count("true from 1 %"),
    "lower": Count("true from 0.5 %", threshold=0.005),
    "higher": Count("true from 5 %", threshold=0.05),
    "once": Count("visited if seen once", visited=0.0),
    "sure": Count("pictures that the classifier is sure of", sure=True),
    "ambiguous": Count("ambiguous images alone", ambiguous=True),
}
"""The first is the one that counts; the others show what hangs on it."""

FIGURES = {
    "visited": "visited", "reached": "of them true", "spurious": "spurious", "recall": "recall",
    "spurious_share": "sweeps in spurious ones", "total_variation": "total variation",
}  # fmt: skip
TRUE_HEADER = ["model", "seed", "z from", "true classes", *FIGURES.values()]
TRUE_WORDS = (
    "A class is true if the reference, many chains per image of the exact sampler with the missing "
    "pixels integrated out, sees it in at least 1 % of its draws. Visited is a class seen in at "
    "least 5 % of the sweeps; recall is the share of the true classes visited; total variation is "
    "that between the classes seen and the reference's."
)
COUNTS_HEADER = ["model", "seed", "the sampler less q", "images", "true classes", *FIGURES.values()]
COUNTS_WORDS = (
    "What hangs on these choices: the sampler less q, paired over images, by other rules. An image "
    "is ambiguous if no class has 90 % of the reference's draws."
)


def true_rows(
    label: str, seed: int, stored: dict[str, Any], names: dict[str, str]
) -> list[list[str]]:
    """Rows under `TRUE_HEADER` of a stored stage, one per method; ``names`` has their words."""
    if "reference" not in stored:  # a file of an earlier version
        return []
    there = mean_and_se(stored["reference"]["true_classes"]["true"])
    methods = {name: words for name, words in names.items() if name in stored}
    return [
        [
            label,
            str(seed),
            words,
            "" if "paired" in words else there,
            *_cells(stored[name]["counts"]["true"]),
        ]
        for name, words in methods.items()
    ]


def count_rows(label: str, seed: int, stored: dict[str, Any]) -> list[list[str]]:
    """Rows under `COUNTS_HEADER`, one per entry of `COUNTS`; none without a sampler."""
    if "reference" not in stored or "difference" not in stored:
        return []
    found, reference = stored["difference"]["counts"], stored["reference"]
    return [
        [
            label,
            str(seed),
            COUNTS[name].words,
            str(reference["num_images"][name]),
            mean_and_se(reference["true_classes"][name]),
            *_cells(figures),
        ]
        for name, figures in found.items()
    ]


def _cells(figures: dict[str, dict[str, float]]) -> list[str]:
    return [mean_and_se(figures[name]) for name in FIGURES]


def find_reference(
    key: Key,
    model: Model,
    images: Images,
    kept: Bool[np.ndarray, " pixels"],
    classifier: Classifier,
    *,
    num_sweeps: int,
    num_chains: int,
    progress: OnProgress | None = None,
) -> Reference:
    """``num_chains`` chains per image of the exact sampler of z given the kept pixels."""
    many = jnp.repeat(images, num_chains, axis=1)
    found = inpaint(
        key,
        model,
        many,
        kept,
        classifier,
        num_sweeps=num_sweeps,
        num_transitions=1,
        draw_with="kept",
        progress=progress,
    )
    by_chain = [
        part.reshape(images.shape[1], num_chains, -1) for part in shares_of(found, classifier)
    ]
    halves = [half.mean(axis=1) for half in np.array_split(by_chain[0], 2, axis=1)]
    return Reference(
        ClassShares(*(part.mean(axis=1) for part in by_chain)), total_variation(*halves)
    )


def shares_by_ais(
    key: Key,
    model: Model,
    images: Images,
    kept: Bool[np.ndarray, " pixels"],
    classifier: Classifier,
    *,
    latent: int,
    num_temperatures: int,
    num_chains: int,
    num_leapfrogs: int,
) -> tuple[Float[np.ndarray, "images classes"], Float[np.ndarray, " images"]]:
    """Class shares by weighted draws of AIS, which need no chain that mixes, and how many draws
    they are worth.

    A check on `find_reference`: p(c | kept pixels) = sum_i w_i 1(class of x_i is c), x_i ~
    p(missing pixels | z_i).
    """
    known, num = jnp.asarray(kept)[:, None], images.shape[1]
    plan_key, run_key, pixel_key = jax.random.split(key, 3)
    likelihood = kept_likelihood(model, images, known)
    plan = plan_ais(
        plan_key,
        likelihood,
        latent=latent,
        num_images=num,
        num_temperatures=num_temperatures,
        num_leapfrogs=num_leapfrogs,
    )
    latents, weights = weighted_draws(
        run_key, likelihood, plan, latent=latent, num_chains=num_chains
    )
    means = jax.nn.sigmoid(model.decoder(latents))
    log_p = classifier(fill_in(pixel_key, jnp.repeat(images, num_chains, axis=1), known, means))
    seen = np.asarray(jnp.argmax(log_p, axis=0)).reshape(num, num_chains)
    shares = np.stack(
        [np.sum(weights * (seen == c), axis=1) for c in range(log_p.shape[0])], axis=1
    )
    return shares, 1 / np.sum(weights**2, axis=1)


def shares_of(found: Inpainted, classifier: Classifier) -> ClassShares:
    """Shares of one run, one chain per column."""
    num_classes = classifier.network.biases[-1].shape[0]
    return ClassShares(
        class_shares(found, num_classes), class_shares(found, num_classes, above=CONFIDENT)
    )


def total_variation(
    one: Float[np.ndarray, "images classes"], other: Float[np.ndarray, "images classes"]
) -> Float[np.ndarray, " images"]:
    """Half the sum over classes of abs(p - p'), what the shares lack to 1 being one class more."""
    difference = one - other
    return (np.abs(difference).sum(axis=1) + np.abs(difference.sum(axis=1))) / 2


def count_classes(
    found: ClassShares, reference: ClassShares, count: Count
) -> dict[str, np.ndarray]:
    """`FIGURES` of every image that counts, with p its shares, r the reference's, T = {c: r_c >=
    threshold}.

    ``visited`` is the size of V = {c: p_c >= visited, p_c > 0}, ``reached`` that of V and T,
    ``spurious`` the rest of V; ``recall`` is reached over the size of T (1 where T is empty);
    ``spurious_share`` the sum of p outside T.
    """
    p, r = _counted(found, reference, count), _counted(reference, reference, count)
    true, visited = r >= count.threshold, (p >= count.visited) & (p > 0)
    reached, num_true = np.sum(visited & true, axis=1), np.sum(true, axis=1)
    return {
        "visited": np.sum(visited, axis=1),
        "reached": reached,
        "spurious": np.sum(visited & ~true, axis=1),
        "recall": np.where(num_true > 0, reached / np.maximum(num_true, 1), 1.0),
        "spurious_share": np.sum(p * ~true, axis=1),
        "total_variation": total_variation(p, r),
    }


def _counted(
    shares: ClassShares, reference: ClassShares, count: Count
) -> Float[np.ndarray, "images classes"]:
    """The shares that ``count`` is about, of the images that it is about."""
    chosen = reference.every.max(axis=1) < (AMBIGUOUS if count.ambiguous else np.inf)
    return (shares.sure if count.sure else shares.every)[chosen]


def _usable(reference: ClassShares) -> dict[str, Count]:
    """The counts with at least two images: fewer have no standard error."""
    return {
        name: count
        for name, count in COUNTS.items()
        if len(_counted(reference, reference, count)) > 1
    }


def counts(
    found: ClassShares, reference: Reference, less: ClassShares | None = None
) -> dict[str, Any]:
    """`count_classes` for `COUNTS`, less that of ``less``: means and standard errors over images,
    paired.

    A count with fewer than two images is left out.
    """
    results = {}
    for name, count in _usable(reference.shares).items():
        by_image = count_classes(found, reference.shares, count)
        if less is not None:
            other = count_classes(less, reference.shares, count)
            by_image = {figure: values - other[figure] for figure, values in by_image.items()}
        results[name] = {figure: mean_and_error(values) for figure, values in by_image.items()}
    return results


def reference_facts(reference: Reference) -> dict[str, Any]:
    """Images, true classes per image, total variation between halves, for every count."""
    r = {
        name: _counted(reference.shares, reference.shares, count)
        for name, count in _usable(reference.shares).items()
    }
    return {
        "num_images": {name: len(shares) for name, shares in r.items()},
        "true_classes": {
            name: mean_and_error(np.sum(shares >= COUNTS[name].threshold, axis=1))
            for name, shares in r.items()
        },
        "total_variation": mean_and_error(reference.error),
    }
