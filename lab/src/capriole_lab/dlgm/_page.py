"""A page of text, tables and figures in one HTML file that needs nothing else."""

import base64
import html
from pathlib import Path
from typing import Any

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}
td,th{border-bottom:1px solid #ccc;padding:.3rem .7rem;text-align:right}td:first-child,th:first-child{text-align:left}
.claim{background:#f5f5f0;border-left:4px solid #bbb;padding:.5rem 1rem;margin:.5rem 0}"""


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(words)}</p>"


def claim(words: str) -> str:
    """What the paper says, set apart."""
    return f'<p class="claim"><strong>The paper:</strong> {html.escape(words)}</p>'


def picture(path: Path, caption: str) -> str:
    """A PNG, embedded."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    shown = html.escape(caption)
    return f'<figure><img alt="{shown}" src="data:image/png;base64,{data}"><figcaption>{shown}</figcaption></figure>'


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A table of text and numbers."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def page(title: str, sections: dict[str, list[str]]) -> str:
    """The whole document; ``sections`` maps headings to pieces made by the functions above."""
    parts = [
        f"<h2>{html.escape(heading)}</h2>" + "\n".join(pieces)
        for heading, pieces in sections.items()
    ]
    shown = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{shown}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{shown}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
