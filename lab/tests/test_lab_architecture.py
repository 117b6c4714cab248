"""The shape of the laboratory, read from its source: public names of capriole, no circles."""

import ast
import importlib
from pathlib import Path

import pytest

LAB = Path(__file__).parents[1]
SOURCE = LAB / "src" / "capriole_lab"
FILES = sorted(SOURCE.rglob("*.py"))
PROGRAMS = sorted([*LAB.glob("benchmarks/*.py"), *LAB.glob("scripts/*.py")])
LAYERS = (
    {"targets", "report", "cells"},
    {"baselines"},
    {"run", "dlgm"},
    {"toy", "calibration"},
    {"peers"},
    {"unseen", "answer"},
    {"faults"},
    {"cli"},
    {"__main__"},
)
LAYER = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}
MOST_FILES = 12


def imports(path):
    """(module, name) of everything that a file imports; relative imports resolved."""
    package = (
        ("capriole_lab", *path.relative_to(SOURCE).parts[:-1]) if SOURCE in path.parents else ()
    )
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", FILES + PROGRAMS, ids=lambda path: str(path.relative_to(LAB)))
def test_only_public_names_of_the_library_are_used(path):
    for module, name in imports(path):
        if module.split(".")[0] != "capriole":
            continue
        assert not any(part.startswith("_") for part in [*module.split("."), name]), (module, name)
        public = importlib.import_module(module).__all__
        assert not name or name in public, f"{module} does not publish {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms_import_downwards_only(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for module, name in imports(path):
        parts = [*module.split("."), name]
        if parts[0] == "capriole_lab" and parts[1] in LAYER and parts[1] != room:
            assert LAYER[parts[1]] < LAYER[room], f"{room} imports {parts[1]}"


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in FILES}), ids=lambda room: room.name
)
def test_a_room_has_few_files(room):
    assert len(list(room.glob("*.py"))) <= MOST_FILES


def test_modules_import_in_no_circle():
    names = {module_of(path): path for path in FILES}
    seen, done = [], set()

    def visit(name):
        assert name not in seen, f"a circle: {' -> '.join([*seen, name])}"
        if name in done:
            return
        seen.append(name)
        for other in {other for pair in imports(names[name]) for other in inner(pair)} - {name}:
            visit(other)
        seen.pop()
        done.add(name)

    def inner(pair):
        """The file that an import names: a module of a package, else the module itself."""
        module, name = pair
        return [found for found in (f"{module}.{name}", module) if found in names][:1]

    for name in names:
        visit(name)


def module_of(path):
    """The dotted name of a file."""
    parts = ("capriole_lab", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")
