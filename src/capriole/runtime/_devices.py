"""Chains over several devices, and agreement between several processes.

Chains are the last axis of every array that has them. That axis is divided over devices, and arrays
without chains are copied to each device. The compiler adds the communication that is left, which is
the sum of gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "chains"
"""Name of the mesh axis that holds chains."""

type Devices = Sequence[jax.Device]
"""Devices that share the chains."""


def check_devices(devices: Devices, num_chains: int) -> None:
    """Check that chains can be divided evenly.

    Args:
        devices: the devices, at least one.
        num_chains: number of chains.

    Raises:
        ValueError: if they cannot.
    """
    if not len(devices):
        raise ValueError("devices must name at least one device, e.g. jax.devices()")
    if num_chains % len(devices):
        below, above = (
            num_chains - num_chains % len(devices),
            -(-num_chains // len(devices)) * len(devices),
        )
        choices = " or ".join(str(n) for n in (below, above) if n)
        raise ValueError(
            f"{num_chains} chains cannot be divided evenly over {len(devices)} devices; take "
            f"{choices} chains, "
            "or a number of devices that divides them"
        )


def divided[T](tree: T, devices: Devices) -> T:
    """Divide the last axis, the chains, of all arrays over devices.

    Args:
        tree: pytree of arrays.
        devices: they must divide the number of chains.

    Returns:
        The same pytree on the devices.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))

    def put(leaf: jax.Array) -> jax.Array:
        return _put(leaf, NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), AXIS)))

    return _placed(put, tree)


def copied[T](tree: T, devices: Devices) -> T:
    """Copy all arrays to every device.

    Args:
        tree: pytree of arrays.
        devices: where to copy to.

    Returns:
        The same pytree on the devices.
    """
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    return _placed(lambda leaf: _put(leaf, sharding), tree)


def divided_map[T](function: Callable[..., T], devices: Devices, *, like: T) -> Callable[..., T]:
    """Map a function over devices, each for its own chains.

    When the map is differentiated with respect to ``common``, each device sums over its own chains,
    loops included, and the devices add their sums once. With `divided` alone the compiler may add
    them in every iteration of a loop.

    Args:
        function: ``function(common, per_chain)``; the result has chains last.
        devices: they must divide the number of chains.
        like: pytree of arrays with the structure and ranks of the result.

    Returns:
        A function of ``(common, per_chain)`` with the same result.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))

    def last_axis(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), AXIS), tree)

    def mapped(common: Any, per_chain: Any) -> T:
        specs = {"in_specs": (PartitionSpec(), last_axis(per_chain)), "out_specs": last_axis(like)}
        # JAX's check would refuse a log density with a loop that starts at a constant.
        return jax.shard_map(function, mesh=mesh, check_vma=False, **specs)(common, per_chain)

    return mapped


def whole[T](tree: T) -> T:
    """Gather divided arrays from all processes on one device of this process.

    Every process must call it at the same point of the program.

    Args:
        tree: pytree of arrays.

    Returns:
        The same pytree.
    """
    return _placed(
        lambda leaf: leaf if isinstance(leaf.sharding, _ONE) else jnp.asarray(_gathered(leaf)), tree
    )


def own(array: jax.Array) -> np.ndarray:
    """This process's part of an array with chains last.

    Args:
        array: any array.

    Returns:
        The part on the host; with one process all of it.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    parts = {shard.index[-1].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)], axis=-1)


def any_process(flag: bool) -> bool:
    """Whether a flag holds in any process.

    It is a barrier: all processes must call it at the same point.

    Args:
        flag: this process's flag.

    Returns:
        True in every process if it holds in one.
    """
    if jax.process_count() == 1:
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(process_allgather(np.asarray(flag)).any())


def is_first_process() -> bool:
    """Whether this process writes the files that are written once."""
    return jax.process_index() == 0


_ONE = jax.sharding.SingleDeviceSharding
"""Sharding of an array on one device."""


def _put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Place one array; with several processes each one places its own part."""
    if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    host = np.asarray(leaf)  # equal in all processes
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: host[index])


def _placed[T](place: Callable[[jax.Array], jax.Array], tree: T) -> T:
    """Apply a placement to all arrays of a pytree."""
    return jax.tree.map(lambda leaf: place(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def _gathered(leaf: jax.Array) -> np.ndarray:
    """One array from all processes, as a NumPy array."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(leaf, tiled=True)
