"""One self-contained HTML page: text, tables and figures, nothing fetched from anywhere."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Section(NamedTuple):
    """A heading and the blocks below it, made by `text`, `points`, `table` and `picture`."""

    title: str
    blocks: list[dict[str, Any]]


def text(content: str) -> dict[str, Any]:
    """A paragraph."""
    return {"kind": "text", "text": content}


def claim(words: str) -> dict[str, Any]:
    """What the paper says."""
    return text(f"The paper: {words}")


def points(items: list[str]) -> dict[str, Any]:
    """A list of sentences."""
    return {"kind": "points", "items": items}


def table(
    header: list[str], rows: list[list[Any]], *, caption: str = "", folded: bool = False
) -> dict[str, Any]:
    """A table; the first cell of a row is its heading, cells that say pass or fail are coloured.

    ``folded`` hides it behind its caption. Raises ValueError for a row whose length is not that of
    the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}: {row}")
    return {"kind": "table", "header": header, "rows": rows, "caption": caption, "folded": folded}


def picture(figure: "Figure", caption: str, *, form: str = "svg") -> dict[str, Any]:
    """A figure inlined as SVG, or as PNG where it has too many points for that (``form="png"``)."""
    buffer = io.BytesIO()
    media, metadata = {"svg": ("image/svg+xml", {"Date": None}), "png": ("image/png", {})}[form]
    figure.savefig(
        buffer, format=form, metadata=metadata
    )  # no date: the same figures give the same page
    return _embedded(buffer.getvalue(), media, caption)


def image(path: Path, caption: str) -> dict[str, Any]:
    """The PNG at ``path``, inlined."""
    return _embedded(path.read_bytes(), "image/png", caption)


def _embedded(content: bytes, media: str, caption: str) -> dict[str, Any]:
    data = base64.b64encode(content).decode("ascii")
    return {"kind": "picture", "media": media, "data": data, "caption": caption}


def page(title: str, lead: str, sections: list[Section]) -> str:
    """The page as a string; everything in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("capriole_lab.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    # Jinja would take a namedtuple's or dict's own attributes (`items`, `count`) for the fields of
    # these names.
    named = [{"title": section.title, "blocks": section.blocks} for section in sections]
    return environment.get_template("page.html.jinja").render(
        title=title, lead=lead, sections=named
    )
