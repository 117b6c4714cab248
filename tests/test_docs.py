"""The code of README and docs runs."""

import importlib
import re
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


def blocks(page):
    """The Python code of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


# Pages whose code needs the laboratory are run by its own tests.
PAGES_WITH_CODE = [p for p in PAGES if blocks(p) and "capriole_lab" not in "".join(blocks(p))]
# Searches of `fit`, which other tests make too.
KINDS = ("bounded", "jax", "loops", "numpyro", "pymc", "stan")
DEAR = dict.fromkeys(["fit.md", *(f"model-{kind}.md" for kind in KINDS)], pytest.mark.slow)


@pytest.fixture
def stan_without_bridgestan(monkeypatch):
    """BridgeStan compiles sources that are no Python package: here our own file takes their place,
    around Stan itself.
    """
    compiler = pytest.importorskip("stan_compiler")
    bridgestan = pytest.importorskip("bridgestan")
    if not compiler.can_compile():
        pytest.skip("needs g++ and the httpstan wheel")
    monkeypatch.setattr(bridgestan, "StanModel", compiled_schools)


def compiled_schools(program, data):
    from stan_compiler import CompiledStan

    assert data == f"{Path(program).stem}.json"
    effects = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
    errors = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]
    return CompiledStan(Path(program).stem, {"J": 8, "y": effects, "sigma": errors})


@pytest.mark.filterwarnings("ignore")  # what users see of other libraries is not ours to fix
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=DEAR.get(page.name, ()), id=page.name) for page in PAGES_WITH_CODE],
)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch, request):
    if page.name == "model-stan.md":
        request.getfixturevalue("stan_without_bridgestan")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks(page):
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


# docs/names.md lists names that are gone.
LIVING = [page for page in PAGES if page.name != "names.md"]


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.stem)
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
