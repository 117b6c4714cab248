"""One target or model of calibration: a kernel is trained and then put on trial."""

import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from capriole.models import versions
from capriole.runs import RunFolder
from capriole.runtime import OnProgress

from ..cells import CELL
from ._examine_model import Examination
from ._examine_target import examine_target
from ._kernels import make_kernel, make_subject
from ._models import AbstractModel
from ._settings import LEVEL, SHARE, calibrate_settings


def run_cell(
    name: str, seed: int, preset: str, path: Path, progress: OnProgress = None
) -> dict[str, Any]:
    """Train a kernel, examine it, store ``cell.json``. Needs JAX's x64 mode."""
    begin, settings = time.perf_counter(), calibrate_settings(preset)
    subject = make_subject(name)
    train_key, trial_key = jax.random.split(jax.random.key(seed))
    trained = make_kernel(name, subject, train_key, settings, progress)
    if isinstance(subject, AbstractModel):
        found = Examination(subject, trained.kernel, trial_key, settings).diagnose_logdensity()
    else:
        found = examine_target(subject, trained.kernel, trial_key, settings)
    record = {
        "subject": name,
        "seed": seed,
        "preset": preset,
        "settings": settings.as_dict(),
        "kernel": trained.words,
        "training_seconds": trained.seconds,
        "level": LEVEL,
        "share": SHARE,
        "dim": subject.dim,
        "dtype": str(jnp.zeros(()).dtype),
        "device": jax.devices()[0].platform,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "versions": versions(),
        **found,
        "seconds": time.perf_counter() - begin,
    }
    RunFolder(path).write_json(CELL, record)
    return record
