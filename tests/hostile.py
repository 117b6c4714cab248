"""Files from strangers: sound ones of every kind, ways to spoil them, and what reading them may do.

`spoil` changes one file of a folder, driven by a random generator; `read` reads the folder as
capriole would.
"""

import json
import os
import shutil
import struct
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from capriole import KernelFileError, load, save
from capriole.coordinates import Transported, Whitened, estimate_whitening
from capriole.diagnostics import LEVELS, Marginal, ModeSummary, moments
from capriole.fitting import Cost, Kind, Note, NoteKind, SearchResult
from capriole.kernels import CrankNicolson, Jittered, Mixture, Rotation, Transition, hmc
from capriole.runs import (
    CheckpointError,
    DrawStore,
    RunFolder,
    RunFolderError,
    number,
    open_draws,
)
from capriole.runs._checkpoint import fill
from capriole.runs._found import SEARCH, read_search, write_search
from capriole.runtime import write_container
from kernels import learned, transport_map
from stored import row, warmup_facts
from tiny import KERNEL, KEY, STATE, checkpoints, stop_at, stream

REFUSALS = (KernelFileError, CheckpointError, RunFolderError)
KINDS = ("kernel", "whitened", "checkpoint", "config", "draws", "found")
KERNELS = {"kernel": "kernel.safetensors", "whitened": "whitened.safetensors"}
CONFIG = {
    "command": "fit",
    "seed": 3,
    "num_chains": 4,
    "num_draws": 10,
    "spread": 1.0,
    "train_steps": 0,
    "num_warmup_chains": 16,
    "compare": False,
    "criterion": "gradients",
    "origin": {"function": "model.py:f", "dim": 2, "spread": 1.0, "float64": True},
}
VALUES = [
    None,
    True,
    -1,
    0,
    7,
    1.5,
    2**31,
    2**40,
    2**62,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "../../etc/passwd",
    "/dev/zero",
    "__import__('os').system('touch executed')",
    "float128",
    "x" * 10_000,
    [],
    [2**40, 2**40],
    [1] * 5000,
    {},
    {"id": "pickle"},
    [{"id": "pickle"}],
    {"name": "numcodecs.pickle", "configuration": {}},
]


def make(folder: Path) -> Path:
    """One sound file of every kind."""
    folder.mkdir()
    part = hmc(KERNEL.logdensity, step_size=jnp.asarray(0.3), num_leapfrogs=4, jitter=0.25)
    save(folder / KERNELS["kernel"], Mixture((KERNEL, part), (0.7, 0.3)))
    save(folder / KERNELS["whitened"], whitened())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    stream(folder, progress=stop_at(20))
    for old in sorted((folder / "checkpoints").iterdir())[:-1]:
        old.unlink()
    (folder / "found").mkdir()
    write_search(
        checkpoints(folder / "found"),
        folder / "found" / KERNELS["kernel"],
        KERNEL.logdensity,
        found(),
    )
    return folder


def whitened() -> Mixture:
    """A kernel as `capriole.fit` makes them: every part that `kernel.safetensors` has not, in
    whitened coordinates of a transport map.
    """
    draws = np.random.default_rng(1).normal(size=(2, 400))
    inner = Transported(KERNEL.logdensity, transport_map(2, [1]))
    target = Whitened(inner, estimate_whitening(np.array([[1.0, 0.0], [2.0, 1.0]]) @ draws))
    rotation = Transition(target, Rotation(jnp.asarray(1.2), jnp.asarray(3)))
    network = learned(2, (0.4, 0.2), heads=0.7, squashed=True)(2, jnp.dtype("float64"))
    parts = (
        Transition(target, network),
        Jittered(rotation, 0.75, 1.25),
        Transition(target, CrankNicolson(jnp.ones(()))),
    )
    return Mixture(parts, (0.5, 0.3, 0.2))


def found() -> SearchResult:
    """What the search of `capriole.fit` might find, every field filled."""
    rows = (row(Kind.PCN), row(Kind.NUTS, measured_gradients=900))
    starts, spent = STATE.position[:, :4], Cost(9000, 2.5, 1.5)
    notes = (Note(NoteKind.LEFT_OUT, "no network was trained: rotations suffice"),)
    draws = np.random.default_rng(1).normal(size=(4, 200, 2))
    place = ModeSummary((0.0, 1.0), (1.0, 2.0), 1.0)
    warmup = warmup_facts(
        marginals=(Marginal(1, tuple(np.linspace(-2, 2, len(LEVELS)).tolist())),),
        moments=moments(draws),
        modes=(place,),
    )
    return SearchResult(
        rows[0].name,
        rows[0].name,
        whitened(),
        rows,
        starts,
        STATE.position,
        notes,
        spent,
        spent,
        False,
        Cost(),
        warmup,
    )


def copy(sound: Path, folder: Path, kind: str) -> None:
    """What reading ``kind`` needs, fresh."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = KERNELS | {
        "checkpoint": "checkpoints",
        "config": "config.json",
        "draws": "draws.zarr",
        "found": "found",
    }
    source = sound / names[kind]
    (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / source.name)
    for part in folder.glob("draws.zarr/*/*/c/*"):
        if part.is_file():  # of a coordinate: capriole never reads it, so it may hold anything
            part.unlink()


def read(folder: Path, kind: str) -> str:
    """Read one kind of file: ``loaded``, or ``refused`` with one of capriole's own errors; others
    pass through.
    """
    try:
        if kind in KERNELS:
            load(folder / KERNELS[kind], KERNEL.logdensity)
        elif kind == "checkpoint":
            stored = checkpoints(folder).read("sample")
            if stored is not None:
                fill({"key": KEY, "state": STATE}, stored.arrays)
                number(stored.facts, "goal")
        elif kind == "config":
            _read_config(folder)
        elif kind == "found":
            _read_found(folder / "found")
        else:
            store = DrawStore.open(folder / "draws.zarr")
            for name in store.layout.arrays:
                store.read(name)
            store.read_position()
            with open_draws(folder) as tree:
                tree.load()
    except REFUSALS:
        return "refused"
    return "loaded"


def _read_config(folder: Path) -> None:
    from capriole.cli._fit import read_config

    place = RunFolder.open(folder)
    try:
        read_config(place.read_json("config.json"))
    except ValueError as error:
        if not str(error).startswith("the configuration cannot be"):
            raise
        raise RunFolderError(str(error)) from error
    finally:
        place.close()


def _read_found(folder: Path) -> None:
    stored, kernel = checkpoints(folder).read(SEARCH), folder / KERNELS["kernel"]
    assert stored is not None
    read_search(stored, kernel, KERNEL.logdensity, num_chains=4, position=STATE.position)


def spoil(folder: Path, kind: str, rng: np.random.Generator) -> str:
    """Change one file of the kind in one way, and say how."""
    path = _choose(folder, kind, rng)
    ways = [_cut, _flip, _insert, _fill]
    ways += [_reheaded, _reheaded] if path.suffix == ".safetensors" else []
    ways += [_value, _value, _value, _nested] if path.suffix == ".json" else []
    ways += [_misplaced] if kind == "draws" else []
    way = ways[rng.integers(len(ways))]
    way(path, rng)
    return f"{way.__name__[1:]} {path.name}"


def _choose(folder: Path, kind: str, rng: np.random.Generator) -> Path:
    match kind:
        case "kernel" | "whitened":
            return folder / KERNELS[kind]
        case "checkpoint":
            return next(path for path in (folder / "checkpoints").iterdir())
        case "config":
            return folder / "config.json"
        case "found" if rng.random() < 0.2:
            return folder / "found" / KERNELS["kernel"]
        case "found":
            return next(path for path in (folder / "found" / "checkpoints").iterdir())
    files = sorted(path for path in (folder / "draws.zarr").rglob("*") if path.is_file())
    metadata = [path for path in files if path.suffix == ".json"]
    pool = metadata if rng.random() < 0.7 else files
    return pool[rng.integers(len(pool))]


def _cut(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def _flip(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for position in rng.integers(len(content), size=rng.integers(1, 4)):
        content[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _insert(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    at = int(rng.integers(len(content)))
    path.write_bytes(content[:at] + rng.bytes(int(rng.integers(1, 20))) + content[at:])


def _fill(path: Path, rng: np.random.Generator) -> None:
    fillings = [
        b"",
        b"\0" * 1000,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        rng.bytes(500),
        struct.pack("<Q", 2**60) + b"x" * 99,
    ]
    path.write_bytes(fillings[rng.integers(len(fillings))])


def _hostile_value(rng: np.random.Generator) -> object:
    return VALUES[rng.integers(len(VALUES))]


def _replace_somewhere(content: object, rng: np.random.Generator) -> object:
    """A JSON document with one node, chosen by a random walk from the root, replaced (or, in
    objects, added).
    """
    if isinstance(content, dict) and content and rng.random() < 0.9:
        name = sorted(content)[rng.integers(len(content))]
        if rng.random() < 0.05:
            name = "extra"
        return content | {name: _replace_somewhere(content.get(name), rng)}
    if isinstance(content, list) and content and rng.random() < 0.8:
        at = int(rng.integers(len(content)))
        return [*content[:at], _replace_somewhere(content[at], rng), *content[at + 1 :]]
    return _hostile_value(rng)


def _value(path: Path, rng: np.random.Generator) -> None:
    path.write_text(json.dumps(_replace_somewhere(json.loads(path.read_text()), rng)))


def _nested(path: Path, rng: np.random.Generator) -> None:
    content = json.loads(path.read_text())
    name = sorted(content)[rng.integers(len(content))]
    deep = json.dumps(content | {name: "HERE"}).replace('"HERE"', "[" * 50_000 + "]" * 50_000)
    path.write_text(deep)


def _reheaded(path: Path, rng: np.random.Generator) -> None:
    """Another header with a checksum that is right: what a stranger who knows the format would
    write.
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if rng.random() < 0.6:
        name = sorted(header)[rng.integers(len(header))]
        try:
            header[name] = json.dumps(_replace_somewhere(json.loads(header[name]), rng))
        except ValueError:
            header[name] = str(_hostile_value(rng))
        if rng.random() < 0.1:
            header[name] = "[" * 50_000 + "]" * 50_000
    else:
        name = sorted(arrays)[rng.integers(len(arrays))]
        others = [
            np.zeros(0),
            np.zeros((3, 3)),
            np.full(arrays[name].shape, np.nan),
            np.zeros(5, np.int8),
        ]
        arrays[name] = others[rng.integers(len(others))]
        if rng.random() < 0.3:
            del arrays[name]
    write_container(path, header, arrays)


def _misplaced(path: Path, rng: np.random.Generator) -> None:
    """What has no place in a store: links, pipes, other formats, a missing or a stray file."""
    root = next(parent for parent in path.parents if parent.name == "draws.zarr")
    match rng.integers(6):
        case 0:
            path.unlink()
            path.symlink_to("/dev/zero")
        case 1:
            path.unlink()
            os.mkfifo(path)
        case 2:
            path.unlink()
        case 3:
            old = {
                "zarr_format": 2,
                "shape": [2**40],
                "chunks": [2**40],
                "dtype": "|O",
                "filters": [{"id": "pickle"}],
            }
            (path.parent / ".zarray").write_text(
                json.dumps(old | {"compressor": None, "fill_value": 0, "order": "C"})
            )
        case 4:
            (root / "posterior" / "y").mkdir()
        case 5:
            path.write_bytes((root / "posterior" / "zarr.json").read_bytes())
