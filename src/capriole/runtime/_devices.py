"""Chains over several devices, and agreement between several processes: what of JAX's sharding the
library uses.

Chains are the last axis of every array that has them, so one rule places everything: the last axis
is divided, what has no chains is copied to every device, and the compiler inserts what
communication is left (the sum of the gradients).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "chains"

type Devices = Sequence[jax.Device]


def check_devices(devices: Devices, num_chains: int) -> None:
    """Raise ValueError unless ``num_chains`` can be divided evenly over ``devices``."""
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
    """The arrays of ``tree`` with their last axis, the chains, divided over ``devices``."""
    mesh = Mesh(np.asarray(devices), (AXIS,))

    def put(leaf: jax.Array) -> jax.Array:
        return _put(leaf, NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), AXIS)))

    return _placed(put, tree)


def copied[T](tree: T, devices: Devices) -> T:
    """The arrays of ``tree``, a whole copy on every device."""
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
    return _placed(lambda leaf: _put(leaf, sharding), tree)


def divided_map[T](function: Callable[..., T], devices: Devices, *, like: T) -> Callable[..., T]:
    """``function(common, per_chain)``, by every device for its own chains; the result has chains
    last, as ``like`` has.

    What `divided` leaves to the compiler is said outright here. Where it is differentiated with
    respect to ``common`` every device sums over its own chains, loops included, before the devices
    add up their sums, once.
    """
    mesh = Mesh(np.asarray(devices), (AXIS,))

    def last_axis(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), AXIS), tree)

    def mapped(common: Any, per_chain: Any) -> T:
        specs = {"in_specs": (PartitionSpec(), last_axis(per_chain)), "out_specs": last_axis(like)}
        # Unchecked: the check would refuse a user's log density with a loop that starts at a
        # constant.
        return jax.shard_map(function, mesh=mesh, check_vma=False, **specs)(common, per_chain)

    return mapped


def whole[T](tree: T) -> T:
    """The arrays of ``tree`` on one device of this process, gathered from all processes where they
    are divided.

    Every process must ask for it at the same point of the program.
    """
    return _placed(
        lambda leaf: leaf if isinstance(leaf.sharding, _ONE) else jnp.asarray(_gathered(leaf)), tree
    )


def own(array: jax.Array) -> np.ndarray:
    """This process's part of an array with chains last, on the host: all of it if there is one
    process.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    parts = {shard.index[-1].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)], axis=-1)


def any_process(flag: bool) -> bool:
    """Whether ``flag`` holds in any process; every process must ask at the same point, so it is a
    barrier too.
    """
    if jax.process_count() == 1:
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(process_allgather(np.asarray(flag)).any())


def is_first_process() -> bool:
    """Whether this process is the one that writes what is written once."""
    return jax.process_index() == 0


_ONE = jax.sharding.SingleDeviceSharding


def _put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
        )
    host = np.asarray(leaf)  # the same in every process, which takes its own part of it
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: host[index])


def _placed[T](place: Callable[[jax.Array], jax.Array], tree: T) -> T:
    return jax.tree.map(lambda leaf: place(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def _gathered(leaf: jax.Array) -> np.ndarray:
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(leaf, tiled=True)
