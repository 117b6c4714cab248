"""Figures are drawn without pyplot, with one colour per sampler, and survive what real runs hand
them.
"""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from capriole_lab import report


def history(num=300, **more):
    rng = np.random.default_rng(0)
    return {"loss": rng.standard_normal(num), "acceptance_rate": rng.random(num)} | more


def drawn(figure, tmp_path):
    """Write the figure, which is when matplotlib lays out and complains; return its axes."""
    assert isinstance(figure, Figure)
    written = report.save(figure, tmp_path / "new folder" / "figure.png")
    assert written.read_bytes()[:4] == b"\x89PNG"
    return figure.axes


def colours(axes):
    return {to_hex(line.get_color()) for line in axes.lines}


def test_training_curve(tmp_path):
    labels = [axes.get_ylabel() for axes in drawn(report.training_curve(history()), tmp_path)]
    assert labels == ["loss", "acceptance"]
    more = history(jump=np.linspace(0, 1, 300), temperature=np.geomspace(10, 1, 300))
    labels = [axes.get_ylabel() for axes in drawn(report.training_curve(more), tmp_path)]
    assert labels == ["loss", "acceptance", "squared jump", "temperature"]
    constant = history(temperature=np.ones(300))
    assert len(drawn(report.training_curve(constant), tmp_path)) == 2


@pytest.mark.parametrize("num", [1, 2, 99])
def test_training_curve_of_a_short_run(num, tmp_path):
    drawn(report.training_curve(history(num)), tmp_path)


def test_training_curve_with_spikes_and_skipped_steps_shows_the_rest(tmp_path):
    loss = np.random.default_rng(0).standard_normal(1000)
    loss[10], loss[20], loss[30] = 1e9, np.nan, np.inf
    axes = drawn(report.training_curve(history(1000) | {"loss": loss}), tmp_path)
    assert axes[0].get_ylim()[1] < 10


def test_autocorrelation_figure(tmp_path):
    lags = 10 * np.arange(50)
    curves = {"l2hmc": (lags, 0.8 ** np.arange(50)), "hmc": (lags, 0.95 ** np.arange(50))}
    (axes,) = drawn(report.autocorrelation_figure(curves), tmp_path)
    assert axes.get_xlabel() == "gradient evaluations"
    assert any(np.allclose(line.get_ydata(), 0.05) for line in axes.lines)


def test_chains_over_density(tmp_path):
    rng = np.random.default_rng(0)
    paths = {"l2hmc": rng.standard_normal((200, 2)), "hmc": rng.standard_normal((200, 2))}
    bounds = (-4.0, 4.0, -3.0, 3.0)
    for density in (
        None,
        lambda x: -0.5 * np.sum(x**2, axis=0),
        lambda x: np.where(x[0] > 0, -x[0], -np.inf),
    ):
        left, right = drawn(report.chains_over_density(density, paths, bounds), tmp_path)
        assert left.get_xlim() == right.get_xlim() == bounds[:2]
        assert bool(left.collections) == (density is not None)
        assert not colours(left) & colours(right)


@pytest.mark.parametrize("height", [0.01, 0.39, 0.41, 0.5, 1.0, 1.9, 2.1, 100.0])
def test_nothing_is_clipped_at_any_aspect_ratio(height):
    paths = {"l2hmc": np.zeros((200, 2)), "hmc": np.zeros((200, 2))}
    figure = report.chains_over_density(
        lambda x: -np.sum(x**2, axis=0), paths, (0.0, 1.0, 0.0, height)
    )
    figure.canvas.draw()
    box, (width, tall) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= tall


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_density_that_is_nowhere_finite_draws_no_contours(value, tmp_path):
    figure = report.chains_over_density(
        lambda x: np.full(x.shape[1], value), {"a": np.zeros((5, 2))}, (-1, 1, -1, 1)
    )
    (axes,) = drawn(figure, tmp_path)
    assert not axes.collections


def test_trace_figure(tmp_path):
    traces = {"l2hmc": np.arange(10.0), "hmc": np.arange(10.0)}
    axes = drawn(report.trace_figure(traces, "$x_3$"), tmp_path)
    assert [a.get_ylabel() for a in axes] == ["$x_3$", "$x_3$"]


def test_a_sampler_keeps_its_colour_whatever_the_order():
    one = report.trace_figure({"l2hmc": np.arange(3.0), "hmc": np.arange(3.0)}, "x").axes
    two = report.trace_figure(
        {"other": np.arange(3.0), "hmc": np.arange(3.0), "l2hmc": np.arange(3.0)}, "x"
    ).axes
    assert colours(one[0]) == colours(two[2])
    assert colours(one[1]) == colours(two[1])


def test_eight_samplers_have_eight_colours():
    names = ["l2hmc", "hmc", "hmc_paper", "nuts", "chees", "mclmc", "flowmc", "anice"]
    axes = report.trace_figure({name: np.arange(3.0) for name in names}, "x").axes
    assert len(set.union(*map(colours, axes))) == 8


def test_importing_and_drawing_leave_pyplot_out():
    code = (
        "import sys, numpy as np; from capriole_lab import report; assert 'matplotlib' not in "
        "sys.modules;report.trace_figure({'hmc': np.arange(3.0)}, 'x'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
