"""The hardware of a run, in words."""

import os

import jax

from capriole.runtime import Devices


def describe(devices: Devices | None) -> str:
    """``cpu (2 cores)``, with the number of devices and processes in front if there are several."""
    device = jax.devices()[0] if devices is None else devices[0]
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    number = "" if devices is None else f"{len(devices)} x "
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{number}{named(f'{device.platform} {device.device_kind}')} ({cores} cores{processes})"


def named(device: str) -> str:
    """A device as results hold it: ``cpu cpu`` is ``cpu``."""
    return device.replace("cpu cpu", "cpu")
