"""Models of NumPyro leave JAX's settings, devices, flags and warnings as they were."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, warnings
import jax
import numpy as np
sys.path.insert(0, {tests!r})

def state():
    settings = dict(jax.config.values)
    flags = os.environ.get("XLA_FLAGS"), len(jax.devices()), jax.numpy.zeros(()).dtype
    return settings, flags, list(warnings.filters)

# What a library changes when it is imported is its own: numpyro adds filters of warnings.
import arviz_base, arviz_stats, blackjax, funsor, numpyro, numpyro.contrib.funsor, xarray
jax.devices()
before = state()
import capriole
from numpyro_models import Y, centred, discrete
model = capriole.from_numpyro(centred, Y, jit_model_args=True)
capriole.from_numpyro(discrete, Y)
double = capriole.Model(lambda z: -(z["a"] ** 2), {{"a": 0.0}}, double=True)
for made in (model, double):
    target, _ = capriole.models.as_logdensity(made)
    kernel = capriole.kernels.hmc(target, step_size=0.1, num_leapfrogs=2)
    capriole.sample(kernel, num_chains=2, num_draws=10, num_warmup=0)
for name, old, new in zip(("settings", "flags", "warnings"), before, state()):
    assert old == new, (name, old, new)
print("untouched")
"""


@pytest.mark.parametrize("x64", ["0", "1"])
def test_nothing_global_changes(x64):
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"JAX_ENABLE_X64": x64}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=tests)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.stdout == "untouched\n", done.stdout + done.stderr
