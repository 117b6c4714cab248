"""The command line, in this process or in its own with the tests' compilation cache."""

import importlib
import os
import re
import signal
import subprocess
import sys

import jax
import jaxtyping
import pytest
from typer.testing import CliRunner

ENVIRONMENT = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("CAPRIOLE_TEST_CACHE", ""),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


@pytest.fixture(autouse=True)
def as_for_users(monkeypatch):
    """Single precision, JAX's own promotion of types and none checked, as in a process of its own;
    then as it was.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", False)
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


def here(*words, package="capriole", **env):
    """The command in this process, which saves it the imports; ``main`` adds no more than what
    Ctrl-C needs.
    """
    app = importlib.import_module(f"{package}.cli._app").app
    return CliRunner().invoke(app, [*map(str, words)], env=env)


def process(*words, package="capriole", **env):
    """The command in a process of its own, to its end."""
    return subprocess.run(
        command(*words, package=package),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=ENVIRONMENT | env,
    )


def command(*words, package="capriole"):
    """The command ``capriole WORDS``, or another package's, for subprocess."""
    return [sys.executable, "-m", package, *map(str, words)]


def stop_by_sigterm(*words, out, phase, package="capriole"):
    """Run ``capriole WORDS --out OUT``, send SIGTERM when it reports ``phase``, and check how it
    leaves.
    """
    started = command(*words, "--out", out, package=package)
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        for line in process.stderr:
            if line.startswith(f"{phase}:"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 143, rest
    assert "stopped by SIGTERM" in rest
    assert re.search(rf"capriole(-lab)? resume {re.escape(str(out))}", rest)
