"""The shape of the package, read from its source: who may import whom, what importing costs, what
is forbidden.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import capriole

ROOT = Path(capriole.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]

# A core module may import from the layers below its own, and from nothing else of capriole.
LAYERS = [
    {"_types", "_clock", "_container", "_devices", "_health", "_schedules"},
    {"_logdensity", "_networks"},
    {"_dynamics", "_ravel", "_transport"},
    {"_transition", "_starts", "_whitening", "_jump", "_transport_parts", "_transport_mixing"},
    {"_objectives", "_check", "_pilot", "_places", "_quick", "_transport_fit"},
    {"_train", "_profile", "_modes"},
    {"_sample", "_io", "_candidates", "_doctor"},
    {"_explore"},
    {"_judge"},
    {"_front"},
]
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
HIGH = {"_fit", "cli", "experiments", "report", "runs", "baselines", "dlgm", "calibration"}
FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def tree(path):
    return ast.parse(path.read_text())


def imported(path):
    """Absolute names of everything a file imports, at any depth; relative imports resolved."""
    package = ("capriole", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def parts_of_capriole(path):
    """First component below ``capriole`` of every import of it, e.g. ``_dynamics`` or ``targets``."""
    known = {p.stem for p in ROOT.glob("*.py")} | {p.name for p in ROOT.iterdir() if p.is_dir()}
    return {name.split(".")[1] for name in imported(path) if name.startswith("capriole.")} & known


def test_the_layers_cover_the_core():
    core = {path.stem for path in ROOT.glob("_[a-z]*.py")}
    assert core <= set(LAYER), f"give a layer to {core - set(LAYER)}"


@pytest.mark.parametrize("name", sorted(LAYER))
def test_core_modules_import_downwards_only(name):
    for other in parts_of_capriole(ROOT / f"{name}.py"):
        allowed = other == "diagnostics" or (
            other in LAYER
            and (LAYER[other] < LAYER[name] or (name, other) == ("_sample", "_train"))
        )
        assert allowed, f"{name} imports {other}"


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in FILES
        if p.relative_to(ROOT).parts[0] not in HIGH and p.stem not in ("__main__", "__init__")
    ],
    ids=str,
)
def test_the_core_does_not_know_what_is_built_on_it(path):
    assert not parts_of_capriole(path) & HIGH


@pytest.mark.parametrize("path", sorted(ROOT.glob("targets/*.py")), ids=lambda p: p.name)
def test_targets_know_densities_only(path):
    assert parts_of_capriole(path) <= {"_types", "_logdensity", "_networks", "targets"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("dlgm/*.py")), ids=lambda p: p.name)
def test_latent_variable_models_know_nothing_above_them(path):
    assert not parts_of_capriole(path) & (HIGH - {"dlgm"})


@pytest.mark.parametrize("path", sorted(ROOT.glob("calibration/*.py")), ids=lambda p: p.name)
def test_calibration_knows_the_core_only(path):
    assert not parts_of_capriole(path) & (HIGH - {"calibration"})


def test_diagnostics_see_arrays_only():
    assert parts_of_capriole(ROOT / "diagnostics.py") == {"_health"}
    assert not [name for name in imported(ROOT / "_health.py") if name.startswith("capriole")]
    assert parts_of_capriole(ROOT / "agreement.py") == {"diagnostics"}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_source_files_keep_the_rules(path):
    text, code = path.read_text(), tree(path)
    assert len(text.splitlines()) < 350
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & FORBIDDEN
    assert "__future__" not in roots
    calls = {
        node.func.id
        for node in ast.walk(code)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"eval", "exec", "compile", "__import__"}
    names = {node.attr for node in ast.walk(code) if isinstance(node, ast.Attribute)}
    assert "exec_module" not in names or path.name == "_user.py", (
        "only the user's own FILE.py is executed"
    )
    options = {
        keyword.arg
        for node in ast.walk(code)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    }
    assert "allow_pickle" not in options
    if "cli" not in path.relative_to(ROOT).parts:
        assert "print" not in calls
    assert ast.get_docstring(code), "a module says what it is for"


def test_public_names_resolve_and_are_documented():
    assert capriole.__all__ == sorted(set(capriole.__all__))
    for name in capriole.__all__:
        thing = getattr(capriole, name)
        assert inspect.getdoc(thing), f"{name} has no docstring"
        own = thing.__doc__ or ""
        assert not own.startswith(f"{name}("), f"{name} has only a generated docstring"
    assert set(dir(capriole)) == set(capriole.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = capriole.nonsense


IMPORT = """
import sys
import {module}
assert "jax" not in sys.modules or {module!r} != "capriole", "importing capriole imports jax"
if {module!r} != "capriole":
    import jax
    before = dict(jax.config.values)
    import capriole.sampling._api, capriole_lab.targets, capriole.diagnostics
    after = dict(jax.config.values)
    changed = {{k for k in after if before.get(k) != after[k]}}
    assert not changed, changed
    assert not jax.live_arrays(), jax.live_arrays()
    heavy = {{"arviz", "matplotlib", "blackjax", "typer", "rich", "zarr"}} & set(sys.modules)
    assert not heavy, heavy
print("clean")
"""


@pytest.mark.parametrize("module", ["capriole", "jax"])
def test_importing_costs_nothing_and_changes_nothing(module):
    code = IMPORT.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "clean\n", done.stderr
