"""Data sets of grey images, features first: MNIST, Fashion-MNIST, small 8 x 8 digits."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ._idx import CHECKSUMS, DataError, find_file, read_checked

DATASETS = ("mnist", "mnist-10k", "fashion-mnist", "digits")


class Dataset(NamedTuple):
    """Grey images in [0, 1], (pixels, images), float32, and their classes."""

    train: Float[np.ndarray, "pixels train"]
    train_labels: Int[np.ndarray, " train"]
    test: Float[np.ndarray, "pixels test"]
    test_labels: Int[np.ndarray, " test"]
    side: int


def load_dataset(name: str, folder: Path | None = None, *, download: bool = True) -> Dataset:
    """A data set by name, from ``folder`` if given, else from where `places` looks, else fetched
    and cached.

    ``mnist-10k`` is MNIST's test set split 8,000 / 2,000, for machines without the training set.
    Raises ValueError for an unknown name, `DataError` for files that are missing or damaged.
    """
    match name:
        case "mnist" | "fashion-mnist":
            train, test = (
                _pair(name, part, folder, download=download) for part in ("train", "t10k")
            )
            return _dataset(*train, *test)
        case "mnist-10k":
            images, labels = _pair("mnist", "t10k", folder, download=download)
            return _split(images, labels, num_train=8000)
        case "digits":
            return _split(*_digits(), num_train=1400)
    raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}")


def hold_out(data: Dataset, num: int) -> tuple[Dataset, Float[np.ndarray, "pixels validation"]]:
    """The data set without its last ``num`` training images, and those images: what training may be
    judged by.

    Raises ValueError if nothing would be left to train on.
    """
    left = data.train.shape[1] - num
    if left < 1:
        raise ValueError(
            f"cannot hold out {num} of {data.train.shape[1]} training images; use fewer"
        )
    kept = data._replace(
        train=np.ascontiguousarray(data.train[:, :left]), train_labels=data.train_labels[:left]
    )
    return kept, np.ascontiguousarray(data.train[:, left:])


def _pair(
    dataset: str, part: str, folder: Path | None, *, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        read_checked(find_file(dataset, name, folder, download=download), CHECKSUMS[dataset][name])
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    )
    return images / np.float32(255), labels


def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the 8 x 8 digits come with scikit-learn; install capriole with the extra [dlgm]"
        ) from error
    found = load_digits()
    return found.images.astype(np.float32) / np.float32(16), found.target


def _split(images: np.ndarray, labels: np.ndarray, *, num_train: int) -> Dataset:
    """Train and test by one fixed shuffle, the same for every seed of a run."""
    order = np.random.default_rng(20180430).permutation(len(images))
    train, test = order[:num_train], order[num_train:]
    return _dataset(images[train], labels[train], images[test], labels[test])


def _dataset(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> Dataset:
    side = train.shape[1]
    columns = [
        np.ascontiguousarray(part.reshape(len(part), -1).T, dtype=np.float32)
        for part in (train, test)
    ]
    return Dataset(
        columns[0], train_labels.astype(np.int32), columns[1], test_labels.astype(np.int32), side
    )
