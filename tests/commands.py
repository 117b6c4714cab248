"""The command line in processes of its own, with the tests' compilation cache."""

import os
import signal
import subprocess
import sys

ENVIRONMENT = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("CAPRIOLE_TEST_CACHE", ""),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def command(*words):
    """The command ``capriole WORDS``, for subprocess."""
    return [sys.executable, "-m", "capriole", *map(str, words)]


def stop_by_sigterm(*words, out, phase):
    """Run ``capriole WORDS --out OUT``, send SIGTERM when it reports ``phase``, and check how it
    leaves.
    """
    started = command(*words, "--out", out)
    with subprocess.Popen(started, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        for line in process.stderr:
            if line.startswith(f"{phase}:"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 143, rest
    assert "stopped by SIGTERM" in rest
    assert f"capriole resume {out}" in rest
