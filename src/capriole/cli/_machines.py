"""Which devices a command uses, and how several processes find each other."""

import os
import sys
from typing import Any, NamedTuple

GONE = "if another process stopped, start all of them again with `capriole resume`"
PATIENCE = 3600
"""Seconds that processes on CPUs wait for one another; after XLA's own 30 a compilation or a slow
disk would end a run. One that is gone is noticed at once, its connection being closed.
"""


class Machines(NamedTuple):
    """The devices of one process, or of several processes that meet at a coordinator.

    Attributes:
        devices: how many devices one process uses; None: one.
        coordinator: ``HOST:PORT`` where process 0 listens; None: there is one process.
        num_processes: how many processes there are.
        process_id: which of them this is, from 0.
    """

    devices: int | None = None
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def join(self) -> None:
        """Meet the other processes; call it before anything uses JAX.

        Raises:
            ValueError: the options contradict each other.
        """
        if (self.coordinator, self.num_processes, self.process_id) == (None, None, None):
            return
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            raise ValueError(
                "several processes need all of --coordinator HOST:PORT, --num-processes and "
                "--process-id"
            )
        if self.devices is not None:
            raise ValueError(
                "with --coordinator every process uses all devices it sees; leave --devices out"
            )
        if not 0 <= self.process_id < self.num_processes:
            raise ValueError(
                f"--process-id must be 0 to {self.num_processes - 1}, got {self.process_id}"
            )
        import jax

        from ..runtime import any_process

        os.environ["XLA_FLAGS"] = patient(os.environ.get("XLA_FLAGS", ""))
        jax.config.update(
            "jax_cpu_collectives_implementation", "gloo"
        )  # of no effect where there are GPUs
        jax.distributed.initialize(self.coordinator, self.num_processes, self.process_id)
        # The first shared operation connects the processes and waits 30 seconds at most: so it
        # runs now, when all are here.
        any_process(False)

    def origin(self) -> dict[str, int]:
        """What config.json says of them; equal draws, bit for bit, need equal numbers."""
        import jax

        count = self.devices or (len(jax.devices()) if self.coordinator else 1)
        return {"devices": count, "processes": jax.process_count()}


def patient(flags: str) -> str:
    """XLA's ``flags`` with `PATIENCE`; those that the user has set stay."""
    names = (
        "xla_cpu_collective_timeout_seconds",
        "xla_cpu_collective_call_terminate_timeout_seconds",
    )
    return " ".join(
        [flags, *(f"--{name}={PATIENCE}" for name in names if name not in flags)]
    ).strip()


def chosen_devices(origin: dict[str, Any]) -> Any:
    """The devices of a run.

    Args:
        origin: what config.json says of the run: ``devices`` and ``processes``.

    Returns:
        The devices; None for the default one.

    Raises:
        ValueError: there are not as many devices, or processes, as the run has.
    """
    import jax

    count, processes = origin.get("devices", 1), origin.get("processes", 1)
    if processes != jax.process_count():
        raise ValueError(
            f"this run has {processes} processes, here are {jax.process_count()}; resume it with "
            "as many, each with "
            "--coordinator, --num-processes and --process-id"
        )
    devices = jax.devices()
    if processes > 1 and len(devices) != count:
        raise ValueError(
            f"this run has {count} devices in all, here are {len(devices)}; resume it with as many"
        )
    if len(devices) < count:
        cpus = f"; on CPUs set XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise ValueError(
            f"this run needs {count} devices, here are "
            f"{len(devices)}{cpus if devices[0].platform == 'cpu' else ''}"
        )
    return None if count == 1 else devices[:count]


def is_joined() -> bool:
    """Whether this process is one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def leave(status: int) -> None:
    """Of several processes, end this one at once: the others notice; a polite goodbye would wait
    for theirs.
    """
    if is_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
