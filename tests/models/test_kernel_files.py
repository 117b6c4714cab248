"""Kernel files: the same kernel in another process, and an error, never a wrong kernel, from
anything else.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save_file

import capriole
from capriole import KernelFileError, load, save
from capriole.coordinates import Transported, TransportMap, Whitened, estimate_whitening
from capriole.kernels import Leapfrog, Mixture, Prepared, Rotation, Transition, hmc
from capriole.models import kernel_precision
from capriole.runtime import checksum, write_container
from capriole.sampling import draw_chains
from densities import Banana, Gaussian
from kernels import jump, learned, transport_map

F64 = jnp.dtype("float64")
TARGET = Banana()
HERE = Path(__file__).parent


def learned_kernel(context=0):
    columns = jnp.asarray(np.random.default_rng(0).normal(size=(context, 8))) if context else None
    return Transition(TARGET, learned(3, 0.25, context=context)(2, F64), columns)


def jittered():
    return hmc(TARGET, step_size=jnp.asarray(0.3), num_leapfrogs=4, jitter=0.25)


def transported():
    inner = Transported(TARGET, transport_map(2, [1]))
    target = Whitened(inner, estimate_whitening(np.random.default_rng(0).normal(size=(2, 500))))
    return Transition(target, Rotation(jnp.asarray(0.7), jnp.asarray(2)))


KERNELS = {
    "transported": transported,
    "learned": learned_kernel,
    "context": lambda: learned_kernel(context=3),
    "hmc": lambda: hmc(TARGET, step_size=jnp.asarray(0.3), num_leapfrogs=4),
    "jittered": jittered,
    "mixture": lambda: Mixture((learned_kernel(), jittered()), (0.7, 0.3)),
    "jump": lambda: Transition(TARGET, jump(3.0)(2, F64)),
}


def draws(kernel):
    state = kernel.init(jnp.asarray(np.random.default_rng(1).normal(size=(2, 8))))
    return draw_chains(
        jax.random.key(0), kernel, state, num_draws=30, chunk_size=30
    ).record.position


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_kernel_comes_back_the_same(name, tmp_path):
    kernel = KERNELS[name]()
    path = save(tmp_path / "new folder" / "kernel.safetensors", kernel, dim=2)
    back = plain(load(path, TARGET))
    assert jax.tree.structure(back) == jax.tree.structure(kernel)
    jax.tree.map(np.testing.assert_array_equal, back, kernel)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a temporary file is left"


@pytest.mark.parametrize("dynamics", [Leapfrog, Rotation])
@pytest.mark.parametrize("length", [3, jnp.asarray(3)], ids=["number", "array"])
def test_the_number_of_leapfrogs_may_be_a_number_or_an_array(dynamics, length, tmp_path):
    kernel = Transition(TARGET, dynamics(jnp.asarray(0.7), length))
    back = load(save(tmp_path / "kernel.safetensors", kernel, dim=2), TARGET)
    assert int(back.dynamics.num_gradients) == 3
    np.testing.assert_array_equal(draws(back), draws(kernel))


FRESH = """
import random, sys
import numpy as np
random.seed(99); np.random.seed(99)
import jax
jax.config.update("jax_enable_x64", True)
sys.path[:0] = {tests!r}
import test_kernel_files as own
np.save({out!r}, own.draws(own.load({path!r}, own.TARGET)))
"""


def test_a_fresh_process_draws_the_same_bits(tmp_path):
    kernel = KERNELS["mixture"]()
    path = save(tmp_path / "kernel.safetensors", kernel)
    out = tmp_path / "draws.npy"
    code = FRESH.format(tests=[str(HERE), str(HERE.parent)], out=str(out), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), draws(kernel))


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_keeps_its_precision_whatever_jax_is_set_to(dtype, flag, tmp_path):
    with jax.enable_x64(dtype == "float64"):
        kernel = Transition(Gaussian(jnp.ones(2)), learned(2)(2, jnp.dtype(dtype)))
    with jax.enable_x64(flag):
        back = load(save(tmp_path / "kernel.safetensors", kernel), kernel.logdensity)
        assert kernel_precision(back) == kernel_precision(kernel) == dtype
    jax.tree.map(np.testing.assert_array_equal, plain(back), plain(kernel))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Bytes of a file with every kind of part, small."""
    path = save(tmp_path_factory.mktemp("io") / "kernel.safetensors", KERNELS["mixture"]())
    return path.read_bytes()


def plain(kernel):
    """The kernel for the log density as it was given, not `Prepared`."""
    return jax.tree.map(
        lambda part: part.logdensity if isinstance(part, Prepared) else part,
        kernel,
        is_leaf=lambda part: isinstance(part, Prepared),
    )


def same(kernel, other):
    kernel, other = plain(kernel), plain(other)
    if jax.tree.structure(kernel) != jax.tree.structure(other):
        return False
    return all(
        map(np.array_equal, jax.tree.leaves(kernel), jax.tree.leaves(other))
    )  # numbers of leapfrogs included


def test_truncated_files_are_refused(saved, tmp_path):
    path = tmp_path / "short"
    for length in np.linspace(0, len(saved) - 1, 50).astype(int):
        path.write_bytes(saved[:length])
        with pytest.raises(KernelFileError, match="is not a readable kernel file: "):
            load(path, TARGET)


DAMAGED = "is damaged: its checksum does not match its contents"


def flips(saved, first, last, count, seed):
    rng = np.random.default_rng(seed)
    for position in rng.integers(first, last, count):
        yield (
            int(position),
            bytes(
                saved[:position]
                + bytes([saved[position] ^ (1 << int(rng.integers(8)))])
                + saved[position + 1 :]
            ),
        )


def test_flipped_bits_are_refused_or_harmless(saved, tmp_path):
    path, kernel = tmp_path / "flipped", KERNELS["mixture"]()
    header = 8 + struct.unpack("<Q", saved[:8])[0]
    refused = 0
    for _, damaged in flips(saved, header, len(saved), 50, seed=0):
        path.write_bytes(damaged)
        with pytest.raises(KernelFileError, match=DAMAGED):
            load(path, TARGET)
    wrong = []
    for position, damaged in flips(saved, 0, header, 120, seed=1):
        path.write_bytes(damaged)
        try:
            if not same(load(path, TARGET), kernel):
                wrong.append(position)
        except KernelFileError:
            refused += 1
    assert not wrong, (
        f"flips at {wrong} gave another kernel: {[saved[p - 20 : p + 10] for p in wrong]}"
    )
    assert refused > 60


def digest(metadata, arrays):
    """The checksum of a container with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "container"
        write_container(path, metadata, arrays)
        return checksum(path)


def rewritten(saved, change, *, fresh=True):
    """The file with its metadata changed by ``change(metadata)`` and the rest untouched.

    With a ``fresh`` checksum, as a stranger would write it who knows the format, or the old one,
    which is then wrong.
    """
    size = struct.unpack("<Q", saved[:8])[0]
    header = json.loads(saved[8 : 8 + size])
    metadata = header["__metadata__"]
    change(metadata)
    if fresh:
        metadata["sha256"] = digest(metadata, from_bytes(saved))
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + saved[8 + size :]


def replaced(old, new):
    def change(metadata):
        assert old in metadata["kernel"]
        metadata["kernel"] = metadata["kernel"].replace(old, new)

    return change


FOREIGN = {
    "another length": replaced('"num_leapfrogs": 4', '"num_leapfrogs": 5'),
    "another jitter": replaced('"low": 0.75', '"low": 0.35'),
    "other probabilities": replaced("[0.7, 0.3]", "[0.3, 0.7]"),
}


@pytest.mark.parametrize("name", list(FOREIGN))
def test_only_the_checksum_knows_another_sound_kernel(name, saved, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(rewritten(saved, lambda metadata: None))
    kernel = load(path, TARGET)
    assert same(kernel, KERNELS["mixture"]())
    path.write_bytes(rewritten(saved, FOREIGN[name]))
    assert not same(load(path, TARGET), kernel)
    path.write_bytes(rewritten(saved, FOREIGN[name], fresh=False))
    with pytest.raises(KernelFileError, match=DAMAGED):
        load(path, TARGET)


ODD = "has a header that does not describe its arrays: "
LENGTH = ODD + "num_leapfrogs must be a whole number from 1 to 1000000000, got "
HOSTILE = {
    "unknown type": (replaced('"Jittered"', '"Exotic"'), "unknown kernel type 'Exotic'"),
    "huge width": (
        replaced('"width": 8', '"width": 1000000000'),
        r"has shape .*, the header asks for .*1000000000",
    ),
    "huge length": (
        replaced('"num_leapfrogs": 3', f'"num_leapfrogs": {10**20}'),
        f"{LENGTH}{10**20}$",
    ),
    "long length": (
        replaced('"num_leapfrogs": 3', '"num_leapfrogs": 30'),
        r"has shape \(3, 2\), .* for \(30, 2\)",
    ),
    "negative length": (replaced('"num_leapfrogs": 4', '"num_leapfrogs": -4'), f"{LENGTH}-4$"),
    "no length": (replaced('"num_leapfrogs": 4', '"num_leapfrogs": 0'), f"{LENGTH}0$"),
    "half a length": (replaced('"num_leapfrogs": 4', '"num_leapfrogs": 4.5'), f"{LENGTH}4.5$"),
    "bad jitter": (
        replaced('"low": 0.75', '"low": 7.0'),
        f"{ODD}the factor's range .* got 7.0 and 1.25",
    ),
    "bad probabilities": (
        replaced("[0.7, 0.3]", "[0.7, 0.7]"),
        rf"{ODD}probabilities must .* got \(0.7, 0.7\)",
    ),
    "not JSON": (lambda m: m.update(kernel="{"), f"{ODD}Expecting property name"),
    "a list": (lambda m: m.update(kernel="[1, 2]"), ODD),
    "deep nesting": (lambda m: m.update(kernel="[" * 100_000), ODD),
    "huge dim": (
        lambda m: m.update(dim="9999999"),
        r"has a fingerprint of shape \(2, 3\) .*, dimension 9999999",
    ),
    "absurd dim": (lambda m: m.update(dim="9" * 5000), "invalid dimension '999"),
    "superscript dim": (lambda m: m.update(dim="²"), "invalid dimension '²'"),
    "no dim": (lambda m: m.pop("dim"), "lacks parts of a capriole kernel file"),
    "odd dtype": (
        lambda m: m.update(dtype="object"),
        "has dtype 'object', expected float32 or float64",
    ),
    "no format": (lambda m: m.pop("format"), "has format None, expected 'capriole-kernel-1'"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_headers_are_refused(name, saved, tmp_path):
    change, message = HOSTILE[name]
    path = tmp_path / "hostile"
    path.write_bytes(rewritten(saved, change))
    with pytest.raises(KernelFileError, match=message):
        load(path, TARGET)


@pytest.mark.parametrize(
    "change", [lambda f: -f, lambda f: f + 0.1, lambda f: f * np.nan, lambda f: np.tril(f, -1)]
)
def test_modes_without_a_shape_are_refused(change, tmp_path):
    """What is above a triangular factor's diagonal the forward map would see, and the inverse would
    not.
    """
    made = jump(3.0)(2, F64)
    path = save(
        tmp_path / "kernel",
        Transition(TARGET, eqx.tree_at(lambda d: d.factor, made, change(made.factor))),
        dim=2,
    )
    with pytest.raises(KernelFileError, match="factors must be triangular, diagonals positive"):
        load(path, TARGET)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"mixing": t.mixing + 1},
        lambda t: {"mixed": t.mixed[::-1] * 0 + 1},
        lambda t: {"mixed": t.mixed * 0},
    ],
)
def test_maps_that_mix_in_a_circle_are_refused(change, tmp_path):
    """Whose forward and inverse would not undo each other, so that kernels there are wrong without
    a sign.
    """
    transport = transport_map(3, [1])
    assert transport.mixed.tolist() == [0, 2]
    kernel = Transition(
        Transported(TARGET, TransportMap(**vars(transport) | change(transport))),
        Rotation(jnp.asarray(0.7), 2),
    )
    path = save(tmp_path / "kernel.safetensors", kernel, dim=3)
    with pytest.raises(KernelFileError, match="in a circle"):
        load(path, TARGET)


def test_headers_that_ask_for_too_much_do_not_allocate(saved, tmp_path):
    """A header size of 2^60, and a tensor said to hold 2^40 numbers: refused before memory is asked
    for.
    """
    path = tmp_path / "huge"
    path.write_bytes(struct.pack("<Q", 2**60) + saved[8:])
    with pytest.raises(KernelFileError, match="is not a readable kernel file: "):
        load(path, TARGET)
    header = {"a": {"dtype": "F64", "shape": [2**20, 2**20], "data_offsets": [0, 2**43]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
    with pytest.raises(KernelFileError, match="is not a readable kernel file: "):
        load(path, TARGET)


class Bomb:
    """Executes on unpickling."""

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_foreign_files_are_refused_and_nothing_is_executed(tmp_path):
    path, trap = tmp_path / "foreign", tmp_path / "executed"
    with pytest.raises(KernelFileError, match="no kernel file at"):
        load(path, TARGET)
    with pytest.raises(KernelFileError, match="not a readable kernel file"):
        load(tmp_path, TARGET)
    for content in (b"", b"hello", b"\0" * 100, b"PK\3\4" + b"x" * 50):
        path.write_bytes(content)
        with pytest.raises(KernelFileError, match="not a readable kernel file"):
            load(path, TARGET)
    bomb = Bomb()
    bomb.path = str(trap)
    path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(KernelFileError, match="not a readable kernel file"):
        load(path, TARGET)
    assert not trap.exists()
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(KernelFileError, match="not a capriole kernel"):
        load(path, TARGET)


def test_other_targets_are_refused_with_both_sets_of_values(tmp_path):
    path = save(tmp_path / "kernel", learned_kernel())
    with pytest.raises(
        KernelFileError, match=r"trained on another log density.*pass the same function"
    ):
        load(path, Banana(scale=1.51))
    with pytest.raises(KernelFileError, match="dimension 2, but init has 3"):
        load(path, lambda x: -jnp.sum(x**2), np.zeros(3))
    with pytest.raises(KernelFileError, match="does not fit this log density"):
        load(path, Gaussian(jnp.ones(3)))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / "kernel", learned_kernel())
    before = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, KERNELS["mixture"]())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["kernel"]


def test_unknown_kernels_are_not_saved(tmp_path):
    class Other(capriole.kernels.Leapfrog):
        """A dynamics of the user's own is a Leapfrog only if it is exactly one."""

    with pytest.raises(ValueError, match="pass dim="):
        save(tmp_path / "kernel", KERNELS["hmc"]())
    with pytest.raises(TypeError, match="cannot save"):
        save(tmp_path / "kernel", Transition(TARGET, Other(jnp.asarray(0.1), 3)), dim=2)
