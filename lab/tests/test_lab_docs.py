"""The laboratory's part of the docs: code runs, fields are documented, results stand."""

import ast
import re
import runpy
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """The Python code of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


PAGES_WITH_CODE = [page for page in PAGES if "capriole_lab" in "".join(blocks(page))]


@pytest.mark.filterwarnings("ignore")  # what users see of other libraries is not ours to fix
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.name)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), namespace)


def fields(path):
    """Names that a source file gives to the values of its rows: keys of dictionaries, and of what
    is assigned to.
    """
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    keys = [key for node in nodes if isinstance(node, ast.Dict) for key in node.keys]
    keys += [
        node.slice
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    ]
    return {key.value for key in keys if isinstance(key, ast.Constant)}


def test_results_schema_documents_every_field_that_a_run_writes():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    written = fields(next((ROOT / "lab" / "src").rglob("_measure.py")))
    assert {
        "num_leapfrogs",
        "warmup_gradients",
        "max_abs_z_mean",
        "mode_rhat",
        "warnings",
    } <= written
    assert [field for field in sorted(written) if f"`{field}`" not in text] == []


@pytest.mark.parametrize(
    "name",
    [f"summarise_{name}.py" for name in ("results", "toy", "dlgm", "peers", "calibration", "fit")],
)
def test_results_in_readme_and_docs_are_those_of_the_stored_files(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "lab" / "scripts")
    monkeypatch.setattr(sys, "argv", [name, "--check"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "lab" / "scripts" / name), run_name="__main__")
    assert left.value.code == 0
