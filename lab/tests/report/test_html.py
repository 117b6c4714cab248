"""The page stands alone: everything is inside, everything is escaped."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from capriole_lab import report
from pages import parsed


def figure():
    drawn = Figure(figsize=(2, 2))
    drawn.subplots().plot([0, 1], [0, 1])
    return drawn


def test_a_page_with_every_kind_of_block():
    blocks = [
        report.text("a < b & c"),
        report.points(["one", "two"]),
        report.table(["name", "verdict"], [["x", "pass"], ["y", "fail"]], caption="open"),
        report.table(["name"], [["z"]], caption="closed", folded=True),
        report.picture(figure(), "as vectors"),
        report.picture(figure(), "as pixels", form="png"),
    ]
    page = report.page(
        "A <title>", "the lead", [report.Section("First", blocks), report.Section("Second", [])]
    )
    tags = parsed(page)
    assert "a &lt; b &amp; c" in page
    assert "A &lt;title&gt;" in page
    sources = [attrs["src"] for tag, attrs in tags if tag == "img"]
    assert [source.split(";")[0] for source in sources] == ["data:image/svg+xml", "data:image/png"]
    assert page.count('class="good"') == page.count('class="bad"') == 1
    assert [attrs["href"] for tag, attrs in tags if tag == "a"] == ["#s1", "#s2"]
    assert page.count("<details>") == 1
    assert page.count("<li>") == 2


def test_a_row_that_does_not_fit_its_header_is_refused():
    with pytest.raises(ValueError, match="has 1 cells, the header 2"):
        report.table(["a", "b"], [["x"]])


def test_one_panel_per_target_and_one_legend_entry_per_sampler():
    curve = (np.arange(5), np.linspace(1, 0, 5))
    panels = {
        "a": {"l2hmc": curve, "hmc": curve},
        "b": {"hmc": curve},
        "c": {},
        "d": {"nuts": curve},
    }
    drawn = report.autocorrelation_panels(panels)
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["a", "b", "c", "d"]
    assert [entry.get_text() for entry in drawn.legends[0].get_texts()] == [
        "L2HMC",
        "HMC, tuned for bulk ESS",
        "NUTS",
    ]
    colours = {axes.lines[i].get_color() for axes, i in ((drawn.axes[0], 1), (drawn.axes[1], 0))}
    assert len(colours) == 1
