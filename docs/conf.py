import re

project = "capriole"
copyright = "The capriole developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing", "myst.header"]

_LITERAL = re.compile(r"(``.*?``|(?<!\*)\*[^\s*][^*]*\*)")


def escape_formulas(app, what, name, obj, options, lines):
    """Docstrings are plain text: ``|x|``, ``*shape`` and ```State`s`` are no markup in them."""
    indent = None  # of the paragraph that introduced a literal block
    for i, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if indent is not None and line.strip() and depth <= indent:
            indent = None
        if indent is None:
            parts = _LITERAL.split(line)
            for k in range(0, len(parts), 2):
                parts[k] = re.sub(r"(?<!\\)([|*])", r"\\\1", parts[k])
                parts[k] = re.sub(r"(`[\w.]+`)(?=\w)", r"\1\\ ", parts[k])
            lines[i] = "".join(parts)
            if line.rstrip().endswith("::"):
                indent = depth


def setup(app):
    app.connect("autodoc-process-docstring", escape_formulas, priority=900)  # after napoleon
