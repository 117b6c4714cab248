"""IDX files, checksums, mirrors and the search order, all on local files."""

import gzip
import hashlib
import http.client
import struct

import numpy as np
import pytest

from capriole_lab.dlgm import DataError, Dataset, load_dataset, parse_idx
from capriole_lab.dlgm.files import _idx
from capriole_lab.dlgm.files._data import hold_out

NAMES = [
    f"{part}-{kind}"
    for part in ("train", "t10k")
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


def idx(array):
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def files(monkeypatch):
    """Contents of a small data set by file name; its checksums take MNIST's place."""
    rng = np.random.default_rng(0)
    contents = {}
    for name in NAMES:
        num = 9 if "train" in name else 5
        shape = (num, 4, 4) if "images" in name else (num,)
        contents[name] = idx(
            rng.integers(0, 10 if "labels" in name else 256, shape).astype(np.uint8)
        )
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setitem(_idx.CHECKSUMS, "mnist", sums)
    return contents


def write(folder, files, *, damage=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        packed = gzip.compress(
            content if name not in damage else content[:-1] + bytes([content[-1] ^ 1])
        )
        (folder / f"{name}.gz").write_bytes(packed)
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No cache, no environment, no shared folder, no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CAPRIOLE_DATA", raising=False)
    monkeypatch.setattr(_idx, "__file__", str(tmp_path / "a/b/c/d/e.py"))
    monkeypatch.setitem(_idx.MIRRORS, "mnist", ((tmp_path / "none").as_uri() + "/",))


def test_parse_gives_the_array_back():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(idx(array)), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x0d\x01\0\0\0\x01\0",
        b"\0\0\x08\x01\0\0",
        idx(np.zeros(4, np.uint8))[:-1],
        idx(np.zeros(4, np.uint8)) + b"x",
    ],
    ids=["empty", "floats", "cut header", "cut data", "too long"],
)
def test_parse_refuses_what_is_not_idx(content):
    with pytest.raises(DataError):
        parse_idx(content)


def test_folder_first_features_first(files, tmp_path):
    data = load_dataset("mnist", write(tmp_path / "mine", files))
    assert data.train.shape == (16, 9)
    assert data.test.shape == (16, 5)
    assert data.side == 4
    first = np.frombuffer(files[NAMES[0]][16:32], np.uint8) / np.float32(255)
    np.testing.assert_array_equal(data.train[:, 0], first)
    np.testing.assert_array_equal(data.train_labels, np.frombuffer(files[NAMES[1]][8:], np.uint8))


def test_environment_then_cache(files, tmp_path, monkeypatch):
    write(tmp_path / "cache/capriole/mnist", files)
    assert _idx.find_file("mnist", NAMES[0]).parent == tmp_path / "cache/capriole/mnist"
    write(tmp_path / "given/mnist", files)
    monkeypatch.setenv("CAPRIOLE_DATA", str(tmp_path / "given"))
    assert _idx.find_file("mnist", NAMES[0]).parent == tmp_path / "given/mnist"


def test_damage_is_named_and_not_used(files, tmp_path):
    folder = write(tmp_path / "mine", files, damage=NAMES[:1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged .*expected"):
        load_dataset("mnist", folder)
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(files[NAMES[0]])[:-9])
    with pytest.raises(DataError, match="cannot read"):
        load_dataset("mnist", folder)


def test_a_missing_file_names_the_places(files, tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "mine")):
        load_dataset("mnist", tmp_path / "mine")
    with pytest.raises(DataError, match="let it be fetched"):
        load_dataset("mnist", download=False)


def test_fetching_goes_past_bad_mirrors_and_keeps_only_whole_files(files, tmp_path, monkeypatch):
    bad = write(tmp_path / "bad", files, damage=NAMES)
    good = write(tmp_path / "good", files)
    mirrors = tuple(f"{folder.as_uri()}/" for folder in (tmp_path / "none", bad, good))
    monkeypatch.setitem(_idx.MIRRORS, "mnist", mirrors)
    data = load_dataset("mnist")
    assert data.train.shape == (16, 9)
    cached = sorted(path.name for path in (tmp_path / "cache/capriole/mnist").iterdir())
    assert cached == sorted(f"{name}.gz" for name in NAMES)
    monkeypatch.setitem(_idx.MIRRORS, "mnist", ())
    np.testing.assert_array_equal(load_dataset("mnist").test, data.test)


def test_a_connection_that_breaks_off_is_a_bad_mirror(files, tmp_path, monkeypatch):
    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self):
            raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr(_idx.urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(DataError, match=r"could not be fetched .*IncompleteRead.*--data"):
        _idx.fetch("mnist", "t10k-labels-idx1-ubyte", tmp_path)


def test_a_failed_fetch_leaves_nothing_behind(files, tmp_path, monkeypatch):
    bad = write(tmp_path / "bad", files, damage=NAMES)
    monkeypatch.setitem(_idx.MIRRORS, "mnist", (f"{bad.as_uri()}/",))
    with pytest.raises(DataError, match=r"could not be fetched .*damaged.*--data"):
        load_dataset("mnist")
    assert list((tmp_path / "cache/capriole/mnist").iterdir()) == []


def test_the_split_is_fixed_disjoint_and_complete(files, tmp_path):
    pytest.importorskip("sklearn")
    first, second = load_dataset("digits"), load_dataset("digits")
    np.testing.assert_array_equal(first.train, second.train)
    assert (first.train.shape, first.test.shape, first.side) == ((64, 1400), (64, 397), 8)
    assert 0 <= first.train.min() < first.train.max() == 1
    both = np.concatenate([first.train, first.test], axis=1)
    from sklearn.datasets import load_digits

    assert sorted(map(tuple, both.T)) == sorted(
        map(tuple, load_digits().data.astype(np.float32) / 16)
    )


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="choose one of mnist, mnist-10k"):
        load_dataset("imagenet")


def test_held_out_images_are_the_last_and_no_longer_trained_on():
    images, labels = np.arange(12, dtype=np.float32).reshape(2, 6), np.arange(6)
    data = Dataset(images, labels, images[:, :1], labels[:1], 1)
    kept, validation = hold_out(data, 2)
    np.testing.assert_array_equal(kept.train, images[:, :4])
    np.testing.assert_array_equal(kept.train_labels, labels[:4])
    np.testing.assert_array_equal(validation, images[:, 4:])
    with pytest.raises(ValueError, match="cannot hold out 6 of 6"):
        hold_out(data, 6)
