"""The code of README and docs runs."""

import re
from collections import Counter
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """The Python code of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


# Pages whose code needs the laboratory are run by its own tests.
PAGES_WITH_CODE = [p for p in PAGES if blocks(p) and "capriole_lab" not in "".join(blocks(p))]
# Three searches of `fit`, which tests/fit makes too.
DEAR = {"fit.md": pytest.mark.slow}


@pytest.mark.filterwarnings("ignore")  # what users see of other libraries is not ours to fix
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=DEAR.get(page.name, ()), id=page.name) for page in PAGES_WITH_CODE],
)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
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
