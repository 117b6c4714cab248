"""The code of README and docs runs."""

import ast
import importlib
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
PAGES_WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.filterwarnings("ignore")  # what users see of other libraries is not ours to fix
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.stem)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)


def prose(page):
    """The text of a page without its blocks of code."""
    return re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def anchors(page):
    """What links may name in a page: its headings as GitHub and MyST spell them (MyST, of three
    levels: conf.py).
    """
    found, seen = set(), Counter()
    for heading in re.findall(r"^#{1,3} +(.+?) *$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def test_links_between_pages_lead_somewhere():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)]+)\)", prose(page))]
    links = [
        (page, link)
        for page, link in links
        if not link.startswith(("https://", "http://", "mailto:"))
    ]
    assert {"#" in link for _, link in links} == {True, False}, (
        "links to pages and to headings are found"
    )
    for page, link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), (
            f"{page.name} links to {link}, which has {anchors(target)}"
        )


def test_readme_is_short():
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert len(words) <= 700


def resolved(name):
    """Whether a dotted name leads somewhere; rooms are imported on the way."""
    found, *rest = name.split(".")
    found = importlib.import_module(found)
    for part in rest:
        if not hasattr(found, part):
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except (AttributeError, ImportError):
                return False
        found = getattr(found, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_of_the_packages_that_pages_mention_exist(page):
    names = re.findall(r"(?<![\w/.-])capriole(?:_lab)?\.[\w.]*\w", page.read_text(encoding="utf-8"))
    if any(name.startswith("capriole_lab") for name in names):
        pytest.importorskip("capriole_lab")
    assert [name for name in sorted(set(names)) if not resolved(name)] == []


def test_every_room_is_in_the_reference():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "src" / "capriole").glob("*/__init__.py")}
    listed = set(re.findall(r"automodule:: capriole\.(\w+)", text))
    assert rooms - {"cli", "report"} == listed


def generated(text):
    """The parts of a page that scripts write."""
    return "".join(re.findall(r"<!-- [\w-]+:begin -->.*?<!-- [\w-]+:end -->", text, re.DOTALL))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_lines_of_docs_have_at_most_100_columns_outside_tables(page):
    text = page.read_text(encoding="utf-8")
    written = set(generated(text).splitlines())
    long = [line for line in text.splitlines() if len(line) > 100 and line not in written]
    assert [line for line in long if not line.startswith("|")] == []


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
def test_results_in_docs_are_those_of_the_stored_files(name, monkeypatch):
    pytest.importorskip("capriole_lab")
    monkeypatch.syspath_prepend(ROOT / "lab" / "scripts")
    monkeypatch.setattr(sys, "argv", [name, "--check"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "lab" / "scripts" / name), run_name="__main__")
    assert left.value.code == 0
