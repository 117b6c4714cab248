"""Files of images: the IDX format, checksums, mirrors, and where to look first."""

import gzip
import hashlib
import http.client
import logging
import os
import urllib.request
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

log = logging.getLogger(__name__)

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}

# MD5 of the *unpacked* files, so that any packing of the same data is accepted.
CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}

DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}


class DataError(OSError):
    """Images that are missing, damaged, or cannot be fetched; the message says what to do."""


def parse_idx(content: bytes, origin: str = "the file") -> UInt8[np.ndarray, "..."]:
    """The array of bytes in an IDX file: two zeros, type 8, number of axes, big-endian sizes,
    row-major values.

    Raises `DataError` for another format or a wrong length.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{origin} is not an IDX file of bytes (it starts with {content[:4]!r})")
    ndim = content[3]
    start = 4 + 4 * ndim
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{origin} is truncated or damaged: {len(content)} bytes for an array of shape {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_checked(path: Path, md5: str) -> UInt8[np.ndarray, "..."]:
    """An IDX file, packed or not, with this MD5. Raises `DataError` for another."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {path}: {error}; remove it or put a good copy there"
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{path} is damaged or another file: unpacked MD5 {found}, expected {md5}; replace it"
        )
    return parse_idx(content, str(path))


def find_file(
    dataset: str, name: str, folder: Path | None = None, *, download: bool = True
) -> Path:
    """Where ``name`` (or ``name.gz``) of a data set lies: ``folder``, then `places`, else fetched
    into the cache.

    Raises `DataError`, naming every place tried, if it is nowhere and cannot be fetched.
    """
    tried = [folder, folder / dataset] if folder is not None else places(dataset)
    for place in tried:
        for candidate in (place / f"{name}.gz", place / name):
            if candidate.is_file():
                return candidate
    if folder is not None or not download:
        raise DataError(
            f"no {name}.gz of {dataset} in {', '.join(map(str, tried))}; put it there or let it be "
            "fetched"
        )
    return fetch(dataset, name, cache_folder() / dataset)


def places(dataset: str) -> list[Path]:
    """Folders searched without ``--data``, in this order."""
    roots = []
    if given := os.environ.get("CAPRIOLE_DATA"):
        roots += [Path(given), Path(given) / dataset]
    checkout = Path(__file__).parents[5]
    if (checkout / "pyproject.toml").is_file():
        roots.append(checkout.parent / "shared" / "data" / dataset)
    if dataset in DEBIAN:
        roots.append(DEBIAN[dataset])
    return [*roots, cache_folder() / dataset]


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/capriole``, by default ``~/.cache/capriole``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capriole"


def fetch(dataset: str, name: str, into: Path, *, timeout: float = 60.0) -> Path:
    """Fetch ``name.gz`` from the first mirror that has it; it appears complete or not at all."""
    target, errors = into / f"{name}.gz", []
    into.mkdir(parents=True, exist_ok=True)
    temporary = into / f".{os.getpid()}.{name}.gz"
    try:
        for mirror in MIRRORS[dataset]:
            url = f"{mirror}{name}.gz"
            log.info("fetching %s", url)
            try:
                with urllib.request.urlopen(url, timeout=timeout) as response:
                    temporary.write_bytes(response.read())
                read_checked(temporary, CHECKSUMS[dataset][name])
            # URLError, timeouts and DataError are OSErrors; a connection that breaks off is neither
            # of the two.
            except (OSError, ValueError, http.client.HTTPException) as error:
                errors.append(f"{url}: {getattr(error, 'reason', error)}")
                continue
            temporary.replace(target)
            return target
    finally:
        temporary.unlink(missing_ok=True)
    raise DataError(
        f"{name} of {dataset} is not on this machine and could not be fetched "
        f"({'; '.join(errors)}); put the files "
        f"into a folder and name it with --data or CAPRIOLE_DATA"
    )
