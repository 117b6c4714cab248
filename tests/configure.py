"""One configuration for all tests, the laboratory's too: float64, strict dtypes, checked
signatures.
"""

import gc
import os
import tempfile
from pathlib import Path

# Most of a test's time is XLA's, which is half as long without LLVM's optimisations. `make test-
# all` has them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# What users have run is kept in their home: tests leave it alone.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="capriole-tests-")

import jax

jax.config.update("jax_enable_x64", True)
# Ranks are promoted by design: per-chain numbers (chains,) against positions (dim, chains).
jax.config.update("jax_numpy_dtype_promotion", "strict")
if cache := os.environ.get("CAPRIOLE_TEST_CACHE"):
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

import pytest  # noqa: E402 (JAX is configured first)
from jaxtyping import install_import_hook  # noqa: E402

from typechecker import MODULES  # noqa: E402

with install_import_hook(MODULES, "typechecker.check"):
    import capriole.fitting  # noqa: F401 (and so everything the hook covers)


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Forget compiled programs after a module if there are many.

    Each is some memory maps, of which Linux allows a process 65,530; one more ends it with a
    segmentation fault in XLA.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def standard_promotion():
    """For tests that train: optax computes ``float ** int32``, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield
