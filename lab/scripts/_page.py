"""What the ``summarise_*.py`` share: Markdown tables, the block between two markers."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table and an empty line; nothing without rows."""
    if not rows:
        return []
    cells = [
        [cell.replace("|", "\\|") for cell in row] for row in (header, ["---"] * len(header), *rows)
    ]
    return ["| " + " | ".join(row) + " |" for row in cells] + [""]


def rewrite(page: str, marker: str, block: str) -> int:
    """Put ``block`` between the ``marker`` comments of ``page``, below the root.

    With ``--check`` nothing is written, and 1 returned if the block is not there.
    """
    path = ROOT / page
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    new = f"{head}{begin}\n{block}\n{end}{tail}"
    if "--check" in sys.argv:
        return int(new != text)
    path.write_text(new, encoding="utf-8")
    return 0
