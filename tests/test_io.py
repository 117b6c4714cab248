"""Kernel files: the same kernel in another process, and an error, never a wrong kernel, from anything else."""

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import capriole
from capriole import (
    KernelFileError,
    Leapfrog,
    Mixture,
    Rotation,
    Transition,
    Whitened,
    draw_chains,
    estimate_whitening,
    hmc,
    load,
    save,
)
from capriole._transport import Transported, TransportMap
from densities import Banana, Gaussian
from kernels import learned, transport_map

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
}


def draws(kernel):
    state = kernel.init(jnp.asarray(np.random.default_rng(1).normal(size=(2, 8))))
    return draw_chains(jax.random.key(0), kernel, state, num_draws=30, chunk_size=30).record.position


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_kernel_comes_back_the_same(name, tmp_path):
    kernel = KERNELS[name]()
    path = save(tmp_path / "new folder" / "kernel.safetensors", kernel, dim=2)
    back = load(path, TARGET)
    assert jax.tree.structure(back) == jax.tree.structure(kernel)
    jax.tree.map(np.testing.assert_array_equal, eqx.filter(back, eqx.is_array), eqx.filter(kernel, eqx.is_array))
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
sys.path.insert(0, {tests!r})
import test_io
np.save({out!r}, test_io.draws(test_io.load({path!r}, test_io.TARGET)))
"""


def test_a_fresh_process_draws_the_same_bits(tmp_path):
    kernel = KERNELS["mixture"]()
    path = save(tmp_path / "kernel.safetensors", kernel)
    out = tmp_path / "draws.npy"
    code = FRESH.format(tests=str(HERE), out=str(out), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(out), draws(kernel))


def test_a_float64_kernel_needs_x64(tmp_path):
    path = save(tmp_path / "kernel.safetensors", Transition(Gaussian(jnp.ones(2)), learned(2)(2, F64)))
    code = f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport capriole, densities, jax.numpy as jnp\n"
    code += f"capriole.load({str(path)!r}, densities.Gaussian(jnp.ones(2)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "KernelFileError" in done.stderr
    assert "jax_enable_x64" in done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Bytes of a file with every kind of part, small."""
    path = save(tmp_path_factory.mktemp("io") / "kernel.safetensors", KERNELS["mixture"]())
    return path.read_bytes()


def same(kernel, other):
    if jax.tree.structure(kernel) != jax.tree.structure(other):
        return False
    pairs = zip(*(jax.tree.leaves(eqx.filter(k, eqx.is_array)) for k in (kernel, other)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_truncated_files_are_refused(saved, tmp_path):
    path = tmp_path / "cut"
    for length in np.linspace(0, len(saved) - 1, 50).astype(int):
        path.write_bytes(saved[:length])
        with pytest.raises(KernelFileError, match="cut"):
            load(path, TARGET)


def flips(saved, first, last, count, seed):
    rng = np.random.default_rng(seed)
    for position in rng.integers(first, last, count):
        yield (
            int(position),
            bytes(saved[:position] + bytes([saved[position] ^ (1 << int(rng.integers(8)))]) + saved[position + 1 :]),
        )


def test_flipped_bits_are_refused_or_harmless(saved, tmp_path):
    path, kernel = tmp_path / "flipped", KERNELS["mixture"]()
    header = 8 + struct.unpack("<Q", saved[:8])[0]
    refused = 0
    for _, damaged in flips(saved, header, len(saved), 50, seed=0):
        path.write_bytes(damaged)
        with pytest.raises(KernelFileError):
            load(path, TARGET)
    wrong = []
    for position, damaged in flips(saved, 0, header, 120, seed=1):
        path.write_bytes(damaged)
        try:
            if not same(load(path, TARGET), kernel):
                wrong.append(position)
        except KernelFileError:
            refused += 1
    assert not wrong, f"flips at {wrong} gave another kernel: {[saved[p - 20 : p + 10] for p in wrong]}"
    assert refused > 60


def rewritten(saved, change):
    """The file with its metadata changed by ``change(metadata)`` and the rest untouched."""
    size = struct.unpack("<Q", saved[:8])[0]
    header = json.loads(saved[8 : 8 + size])
    change(header["__metadata__"])
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + saved[8 + size :]


def replaced(old, new):
    def change(metadata):
        assert old in metadata["kernel"]
        metadata["kernel"] = metadata["kernel"].replace(old, new)

    return change


HOSTILE = {
    "unknown type": replaced('"Jittered"', '"Exotic"'),
    "huge width": replaced('"width": 8', '"width": 1000000000'),
    "huge length": replaced('"num_leapfrogs": 3', '"num_leapfrogs": 100000000000000000000'),
    "negative length": replaced('"num_leapfrogs": 4', '"num_leapfrogs": -4'),
    "another length": replaced('"num_leapfrogs": 4', '"num_leapfrogs": 5'),
    "bad jitter": replaced('"low": 0.75', '"low": 7.0'),
    "another jitter": replaced('"low": 0.75', '"low": 0.35'),
    "bad probabilities": replaced("[0.7, 0.3]", "[0.7, 0.7]"),
    "other probabilities": replaced("[0.7, 0.3]", "[0.3, 0.7]"),
    "not JSON": lambda m: m.update(kernel="{"),
    "a list": lambda m: m.update(kernel="[1, 2]"),
    "deep nesting": lambda m: m.update(kernel="[" * 100_000),
    "huge dim": lambda m: m.update(dim="9999999"),
    "absurd dim": lambda m: m.update(dim="9" * 5000),
    "superscript dim": lambda m: m.update(dim="²"),
    "no dim": lambda m: m.pop("dim"),
    "odd dtype": lambda m: m.update(dtype="object"),
    "no format": lambda m: m.pop("format"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_headers_are_refused(name, saved, tmp_path):
    path = tmp_path / "hostile"
    path.write_bytes(rewritten(saved, HOSTILE[name]))
    with pytest.raises(KernelFileError):
        load(path, TARGET)


@pytest.mark.parametrize(
    "change",
    [lambda t: {"mixing": t.mixing + 1}, lambda t: {"mixed": t.mixed[::-1] * 0 + 1}, lambda t: {"mixed": t.mixed * 0}],
)
def test_maps_that_mix_in_a_circle_are_refused(change, tmp_path):
    """Whose forward and inverse would not undo each other, so that kernels there are wrong without a sign."""
    transport = transport_map(3, [1])
    assert transport.mixed.tolist() == [0, 2]
    kernel = Transition(
        Transported(TARGET, TransportMap(**vars(transport) | change(transport))), Rotation(jnp.asarray(0.7), 2)
    )
    path = save(tmp_path / "kernel.safetensors", kernel, dim=3)
    with pytest.raises(KernelFileError, match="in a circle"):
        load(path, TARGET)


def test_headers_that_ask_for_too_much_do_not_allocate(saved, tmp_path):
    """A header size of 2^60, and a tensor said to hold 2^40 numbers: refused before memory is asked for."""
    path = tmp_path / "huge"
    path.write_bytes(struct.pack("<Q", 2**60) + saved[8:])
    with pytest.raises(KernelFileError):
        load(path, TARGET)
    header = {"a": {"dtype": "F64", "shape": [2**20, 2**20], "data_offsets": [0, 2**43]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
    with pytest.raises(KernelFileError):
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
    with pytest.raises(KernelFileError, match=r"trained on another log density.*pass the same function"):
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
    class Other(capriole.Leapfrog):
        """A dynamics of the user's own is a Leapfrog only if it is exactly one."""

    with pytest.raises(ValueError, match="pass dim="):
        save(tmp_path / "kernel", KERNELS["hmc"]())
    with pytest.raises(TypeError, match="cannot save"):
        save(tmp_path / "kernel", Transition(TARGET, Other(jnp.asarray(0.1), 3)), dim=2)
