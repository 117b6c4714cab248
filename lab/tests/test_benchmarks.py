"""Every benchmark runs, in its smallest form.

Processes are forked from a server that has imported JAX but not used it: a benchmark costs no
imports, and sets up JAX as a user's run of it does.
"""

import json
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["capriole_lab.run", "capriole_lab.baselines", "capriole_lab.dlgm", "capriole.fitting", "zarr"]
)
SMALL_POSTERIOR = "posteriordb/eight_schools-eight_schools_noncentered"
SMALLEST = {
    "dlgm_step": ("--preset", "smoke", "--rounds", "1"),
    "gaussian_posteriors": ("--preset", "smoke", "--num", "20"),
    "heavy_tails": ("--seeds", "1", "--draws", "50", "--cases", "1"),
    "kill_resume": ("--kills", "1"),
    "fuzz_files": ("--cases", "10"),
    "run_overheads": ("--seconds", "1", "--rounds", "1", "--draws", "2000"),
    "scale": ("--seconds", "0.5", "--rounds", "1"),
    "throughput": ("--rounds", "1", "--chains", "50"),
    "volatility_moments": ("--keys", "2", "--draws", "100", "--target", SMALL_POSTERIOR),
}


def run(path, words):
    """Run the script at ``path`` as a program, with the tests' compilation cache."""
    import jax

    if cache := os.environ.get("CAPRIOLE_TEST_CACHE"):
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.argv = [str(path), *words]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


def test_every_benchmark_is_here():
    assert {path.stem for path in BENCHMARKS.glob("[a-z]*.py")} == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_in_its_smallest_form(name, tmp_path, request):
    if SMALL_POSTERIOR in SMALLEST[name]:
        request.getfixturevalue("checkout")
    out = tmp_path / "result.json"
    words = [*SMALLEST[name], "--out", str(out)]
    process = SERVER.Process(target=run, args=(BENCHMARKS / f"{name}.py", words))
    process.start()
    process.join()
    assert process.exitcode == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["versions"]["jax"]
