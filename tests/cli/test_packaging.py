"""What the packages need: declared, named where it is missing, and cheap to import."""

import ast
import importlib
import os
import re
import resource
import subprocess
import sys
import tomllib
import venv
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import capriole

ROOT = Path(__file__).parents[2]
LIBRARY, LABORATORY = ROOT / "src" / "capriole", ROOT / "lab" / "src" / "capriole_lab"
HARD = {
    *("jax", "equinox", "optax", "jaxtyping", "numpy", "scipy", "blackjax"),
    *("arviz-base", "arviz-stats", "xarray", "safetensors", "rich"),
}
OPTIONAL_ROOMS = {"cli", "loops", "models", "report", "runs"}
RUNTIME = ("runs", "cli", "plots", "numpyro", "pymc", "stan")
"""Extras of users; others are for those who work on the library."""
OTHER_NAMES = {"sklearn": "scikit-learn"}
MAX_IMPORT_SECONDS = 0.3


def project(path):
    return tomllib.loads((path / "pyproject.toml").read_text())["project"]


def plain(requirement):
    return re.split(r"[\[<>=!~ ;]", requirement)[0].lower().replace("_", "-")


def extras(metadata):
    return {
        name: {plain(requirement) for requirement in requirements} - {"capriole"}
        for name, requirements in metadata["optional-dependencies"].items()
    }


def imported(path):
    """Distributions that a file imports, at any depth of it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
            yield OTHER_NAMES.get(name, name).lower().replace("_", "-")


def imports_of(folder):
    return {name for path in folder.rglob("*.py") for name in imported(path)}


def test_what_the_library_imports_is_declared():
    metadata = project(ROOT)
    hard, optional = {plain(r) for r in metadata["dependencies"]}, extras(metadata)
    assert hard == HARD
    assert hard <= imports_of(LIBRARY)
    runtime = set().union(*(optional[name] for name in RUNTIME))
    assert imports_of(LIBRARY) <= hard | runtime
    rooms = [room for room in LIBRARY.iterdir() if room.name not in OPTIONAL_ROOMS]
    for room in rooms:
        assert imports_of(room) <= hard, room.name


def test_what_the_laboratory_imports_is_declared():
    declared = {plain(requirement) for requirement in project(ROOT / "lab")["dependencies"]}
    assert imports_of(LABORATORY) - {"capriole-lab"} <= declared
    assert declared >= {"capriole"}


def test_every_dependency_is_pinned_for_the_setup():
    pins = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    metadata = project(ROOT)
    wanted = {plain(requirement) for requirement in metadata["dependencies"]}
    wanted |= set().union(*extras(metadata).values())
    wanted |= {plain(requirement) for requirement in project(ROOT / "lab")["dependencies"]}
    assert wanted - {"capriole"} <= pins


def test_the_command_line_imports_in_one_direction():
    files = {path.stem: path for path in (LIBRARY / "cli").glob("_[a-z]*.py")}
    graph = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                below = {node.module} if node.module else {alias.name for alias in node.names}
                graph[name] |= below & set(files)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError for a circle
    assert order.index("_options") < order.index("_app")


def test_the_public_names_are_few_and_typed():
    assert len(capriole.__all__) <= 40
    for package in ("", "cli"):
        tree = ast.parse((LIBRARY / package / "__init__.py").read_text())
        typed = {
            alias.asname or alias.name
            for block in tree.body
            if isinstance(block, ast.If)
            for node in block.body
            for alias in node.names
        }
        module = importlib.import_module(f"capriole.{package}".rstrip("."))
        assert typed | ({"main"} if package else set()) == set(module.__all__)


@pytest.mark.parametrize(
    ("missing", "code", "words"),
    [
        (
            "zarr",
            "import capriole; capriole.runs.RunFolder('run')",
            "ImportError: run folders need zarr: pip install 'capriole[runs]'",
        ),
        (
            "google_crc32c",
            "import capriole; capriole.runs.RunFolder('run')",
            "ImportError: run folders need google-crc32c: pip install 'capriole[runs]'",
        ),
        (
            "zarr",
            "import capriole; capriole.runs.open_draws('run')",
            "ImportError: run folders need zarr: pip install 'capriole[runs]'",
        ),
        (
            "typer",
            "from capriole.cli import main; main()",
            "error: the command line needs typer: pip install 'capriole[cli]'",
        ),
        (
            "matplotlib",
            "from capriole.runtime import require; require('matplotlib', 'plots')",
            "ImportError: plots need matplotlib: pip install 'capriole[plots]'",
        ),
    ],
)
def test_a_missing_extra_is_named(tmp_path, missing, code, words):
    blocked = f"import sys; sys.modules[{missing!r}] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == words
    assert not (tmp_path / "run").exists()


def processor_seconds(code):
    """Processor time of a fresh interpreter that runs ``code``: the least of three."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def test_importing_costs_little_beyond_jax():
    beyond = processor_seconds("import jax, capriole") - processor_seconds("import jax")
    assert beyond < MAX_IMPORT_SECONDS


def example():
    """The README's first example, as far as its call of `fit`, without networks."""
    text = (ROOT / "README.md").read_text()
    code = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        code.append(block)
        if "capriole.fit(" in block:
            break
    code = "\n".join(code)
    if "train_steps" not in code:
        code = code.replace("num_draws=200", "num_draws=200, train_steps=0")
    assert "train_steps=0" in code
    return code


@pytest.mark.slow
def test_the_wheel_alone_draws_the_readmes_example(tmp_path):
    """Built, installed into an empty environment with the hard dependencies only, and run there."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = tmp_path / "wheels"
    subprocess.run([*pip, "wheel", ROOT, "--no-deps", "--wheel-dir", wheels], check=True)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (wheel,) = wheels.glob("capriole-*.whl")
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([python, *pip[1:], "install", *constraints, wheel], check=True)
    checks = """
import importlib.util, sys
assert not [p for p in ("zarr", "typer", "matplotlib", "arviz") if importlib.util.find_spec(p)]
assert capriole.__file__.startswith(sys.prefix)
assert found.tree.posterior["slope"].shape == (16, 200)
assert abs(float(found.tree.posterior["slope"].mean()) - 1.49) < 0.02
assert not found.verdict.failed
result = capriole.train(logdensity, init, num_leapfrogs=2, num_steps=300, num_chains=16)
assert capriole.sample(result.transition, init, num_draws=50).posterior["slope"].shape == (4, 50)
"""
    (tmp_path / "example.py").write_text(example() + checks)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, tmp_path / "example.py"], cwd=tmp_path, env=environment, check=True, timeout=900
    )
