"""The shape of the library, read from its source: rooms and their order, files, names, costs of
importing.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import capriole

ROOT = Path(capriole.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]
LAB = Path(__file__).parent.parent / "lab" / "src" / "capriole_lab"

ORDER = (
    "runtime",
    "kernels",
    "coordinates",
    "models",
    "sampling",
    "training",
    "adaptation",
    "fitting",
    "loops",
    "runs",
    "cli",
)
"""A room imports from the rooms before it. `diagnostics` is outside: it imports none, all may."""
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
PUBLIC = [room for room in ROOMS if room != "cli"]
MOST_FILES = 12
"""Files of a room at most, its face not counted."""
FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def for_types(code):
    """Nodes that only a type checker sees."""
    for node in ast.walk(code):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from (inner for statement in node.body for inner in ast.walk(statement))


def imports(path, root=ROOT, *, with_types=True):
    """Of everything a file imports, at any depth: its module in full, and the name taken from it
    (None for a whole module).
    """
    package = (root.name, *path.relative_to(root).parts[:-1])
    code = tree(path)
    left_out = set() if with_types else set(for_types(code))
    for node in ast.walk(code):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(filter(None, (base, node.module)))
            yield from ((stem, alias.name) for alias in node.names)


def room_of(path):
    """The room that a file stands in; empty for those at the top."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def from_other_rooms(path):
    """``(room, what is imported)`` for every import of capriole from another room."""
    for module, name in imports(path):
        parts = [*module.split("."), *([name] if name else [])]
        inside = parts[0] == "capriole" and len(parts) > 1 and parts[1] in ROOMS
        if inside and parts[1] != room_of(path):
            yield parts[1], ".".join(parts)


def test_every_room_has_its_place_in_the_order():
    assert set(ROOMS) <= {*ORDER, "diagnostics"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_downwards_only(room):
    for path in (ROOT / room).rglob("*.py"):
        for other, what in from_other_rooms(path):
            if other == "diagnostics":
                continue
            assert room != "diagnostics", f"diagnostics see arrays only; {path.name} has {what}"
            assert ORDER.index(other) < ORDER.index(room), f"{path.name} imports {what}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_room_is_entered_by_its_door(path):
    """Of another room the room itself, or ``from ..room import name`` with a name of its
    ``__all__``.
    """
    if not room_of(path):
        return
    for room, what in from_other_rooms(path):
        _, _, *rest = what.split(".")
        assert len(rest) < 2, f"{what} is inside another room"
        assert not rest or rest[0] in importlib.import_module(f"capriole.{room}").__all__, (
            f"{what} is private"
        )


def circle(edges):
    """A path that comes back to where it began, or None."""
    done, here = set(), []

    def visit(node):
        if node in here:
            return [*here[here.index(node) :], node]
        if node in done:
            return None
        here.append(node)
        found = next(filter(None, map(visit, sorted(edges.get(node, ())))), None)
        here.pop()
        done.add(node)
        return found

    return next(filter(None, map(visit, sorted(edges))), None)


def file_edges(root):
    """Which file imports which, both without their endings."""
    known = {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)): path
        for path in root.rglob("*.py")
    }
    edges = defaultdict(set)
    for name, path in known.items():
        for module, taken in imports(path, root, with_types=False):
            for other in (f"{module}.{taken}", f"{module}.__init__", module):
                if other in known:
                    edges[name].add(other)
                    break
    return edges


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) is None


def test_no_file_imports_in_a_circle():
    edges = file_edges(ROOT)
    assert len(edges) > 50
    edges.pop("capriole.__init__", None)  # it loads names on first use
    assert circle(edges) is None


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_holds_a_dozen_files_at_most(room):
    for folder in {path.parent for path in (ROOT / room).rglob("*.py")}:
        files = [path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
        assert len(files) <= MOST_FILES, sorted(path.name for path in files)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_the_library_knows_nothing_of_the_laboratory(path):
    assert not [module for module, _ in imports(path) if module.startswith("capriole_lab")]
    assert "capriole_lab" not in path.read_text(encoding="utf-8")


def private(path, root):
    """Imports of a private module or name of the library."""
    for module, name in imports(path, root):
        parts = [*module.split("."), *([name] if name else [])]
        if parts[0] == "capriole" and any(part.startswith("_") for part in parts[1:]):
            yield ".".join(parts)


def test_the_laboratory_uses_public_names_only():
    files = sorted(LAB.rglob("*.py"))
    assert len(files) > 50
    found = {path.name: names for path in files if (names := [*private(path, LAB)])}
    assert found == {}


def test_no_file_of_the_laboratory_imports_in_a_circle():
    assert circle(file_edges(LAB)) is None


FIXED_POINTS = {"_doctor.py", "_kernel_files.py", "_numpyro_kernel.py"}
"""Files that examine a log density at points which are the same for everybody; no draw has them."""
OWN_SEED = {"_stan.py"}
"""Makers whose first position hangs on a seed of their own, an argument of the user's."""


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_numpys_random_numbers_hang_on_a_jax_key(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            text = ast.unparse(node)
            assert "key_data" in text or path.name in FIXED_POINTS | OWN_SEED, text


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_source_files_keep_the_rules(path):
    code = tree(path)
    roots = {module.split(".")[0] for module, _ in imports(path)}
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
    if room_of(path) != "cli":
        assert "print" not in calls
    assert ast.get_docstring(code), "a module says what it is for"


def described(name, thing):
    """Whether a function or class has a docstring of its own, not one that was generated."""
    text = thing.__doc__ or ""
    return bool(text) and not text.startswith(f"{name}(")


def test_public_names_resolve_and_are_documented():
    assert capriole.__all__ == sorted(set(capriole.__all__))
    assert len(capriole.__all__) <= 40
    for name in capriole.__all__:
        assert described(name, getattr(capriole, name)), f"{name} has no docstring"
    assert set(dir(capriole)) == set(capriole.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = capriole.nonsense


@pytest.mark.parametrize("room", ROOMS)
def test_names_of_a_room_resolve_and_are_documented(room):
    module = importlib.import_module(f"capriole.{room}")
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert described(name, thing), f"{room}.{name} has no docstring"


def test_a_name_has_one_public_path():
    """Besides the front door, `capriole` itself, which repeats a few names of rooms."""
    homes = defaultdict(list)
    for room in PUBLIC:
        for name in importlib.import_module(f"capriole.{room}").__all__:
            homes[name].append(room)
    assert {name: rooms for name, rooms in homes.items() if len(rooms) > 1} == {}
    assert set(capriole.__all__) - set(ROOMS) <= set(homes)


IMPORT = """
import sys
import {module}
assert "jax" not in sys.modules or {module!r} != "capriole", "importing capriole imports jax"
if {module!r} != "capriole":
    import jax
    before = dict(jax.config.values)
    import {rooms}
    after = dict(jax.config.values)
    changed = {{k for k in after if before.get(k) != after[k]}}
    assert not changed, changed
    assert not jax.live_arrays(), jax.live_arrays()
    heavy = {{"arviz", "arviz_base", "arviz_stats", "blackjax", "capriole_lab", "matplotlib"}}
    heavy |= {{"rich", "typer", "xarray", "zarr", "numpyro", "funsor", "pymc", "bridgestan"}}
    heavy &= set(sys.modules)
    assert not heavy, heavy
print("clean")
"""


@pytest.mark.parametrize("module", ["capriole", "jax"])
def test_importing_costs_nothing_and_changes_nothing(module):
    rooms = ", ".join(f"capriole.{room}" for room in PUBLIC)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(module=module, rooms=rooms)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "clean\n", done.stderr
