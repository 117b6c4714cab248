"""The code of README and docs runs."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES_WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.filterwarnings("ignore")  # what users see of other libraries is not ours to fix
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.name)
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_results_schema_documents_every_field_that_a_run_writes():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    source = (ROOT / "src/capriole/experiments/_measure.py").read_text(encoding="utf-8")
    for field in re.findall(r'^\s+"(\w+)":', source, re.MULTILINE):
        assert f"`{field}`" in text, field


@pytest.mark.parametrize(
    "name",
    [f"summarise_{name}.py" for name in ("results", "toy", "dlgm", "peers", "calibration", "fit")],
)
def test_results_in_readme_and_docs_are_those_of_the_stored_files(name):
    script = ROOT / "scripts" / name
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
