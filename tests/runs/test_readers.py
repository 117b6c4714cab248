"""Draws on disk and in memory are whole and right for whoever reads them: ArviZ, xarray, NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import capriole
from capriole.kernels import hmc
from capriole.models import as_logdensity, dimension_names
from capriole.runs import Checkpoints, DrawStore, draw_chains_to_disk, open_draws
from capriole.runs._coordinates import AS_FLOAT64, coordinates_of
from capriole.runs._layout import Layout

CLASHING = [
    {"x": np.zeros(3), "x_dim_0": 0.0},
    {"beta": np.zeros(2), "beta_dim_0": np.zeros((2, 2))},
    {"a": np.zeros(2), "a_dim_0": np.zeros(1), "a_dim_0_": np.zeros(1)},
    {"a": {"b": np.zeros(2)}, "a.b_dim_0": 0.0},
]
DRAWS = {"num_draws": 30}


def normal(p):
    return -sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p)) / 2


def far(p):
    """N(1e6, 1) in every coordinate."""
    return -sum(jnp.sum((leaf - 1e6) ** 2) for leaf in jax.tree.leaves(p)) / 2


def kernel_of(logdensity, init, dtype="float64"):
    with jax.enable_x64(dtype == "float64"):
        target, flat = as_logdensity(logdensity, init)
        return hmc(target, step_size=0.5, num_leapfrogs=2), flat


def on_disk(folder, logdensity, init, dtype="float64", *, num_draws=30, num_chains=3):
    kernel, flat = kernel_of(logdensity, init, dtype)
    with jax.enable_x64(dtype == "float64"):
        starts = flat[:, None] + jnp.zeros((1, num_chains), dtype)
        state = kernel.init(starts)
    checkpoints = Checkpoints(folder / "checkpoints", identity="test")
    options = {"num_draws": num_draws, "chunk_size": 100}
    draw_chains_to_disk(
        jax.random.key(1), kernel, state, folder / "draws.zarr", checkpoints, **options
    )
    return folder / "draws.zarr"


@pytest.mark.parametrize("init", CLASHING)
def test_no_axis_has_the_name_of_a_variable(init, tmp_path):
    kernel, _ = kernel_of(normal, init)
    tree = capriole.sample(kernel, init, num_warmup=0, num_chains=3, **DRAWS)
    names = [str(name) for name in tree["posterior"].data_vars]
    flat = [np.shape(leaf) for leaf in jax.tree.leaves(init)]
    assert [tree["posterior"][name].shape for name in names] == [(3, 30, *s) for s in flat]
    stored = open_draws(on_disk(tmp_path, normal, init))
    assert [str(name) for name in stored["posterior"].data_vars] == names
    for name in names:
        assert stored["posterior"][name].dims == tree["posterior"][name].dims
        assert stored["posterior"][name].values.std() > 0.1


def test_names_of_axes_are_free():
    assert dimension_names({"x": (3, 2)}) == {"x": ["x_dim_0", "x_dim_1"]}
    found = dimension_names({"x": (3,), "x_dim_0": (2,), "x_dim_0_": ()})
    assert found == {"x": ["x_dim_0__"], "x_dim_0": ["x_dim_0_dim_0"], "x_dim_0_": []}


@pytest.mark.parametrize("name", ["posterior", "sample_stats"])
def test_a_store_opens_in_xarray_as_in_capriole_without_a_word(name, tmp_path):
    path = on_disk(tmp_path, normal, CLASHING[1])  # warnings are errors here
    theirs, ours = xarray.open_datatree(path, engine="zarr"), open_draws(path)
    xarray.testing.assert_identical(theirs[name].to_dataset(), ours[name].to_dataset())
    assert set(ours[name].coords) >= {"chain", "draw"}
    assert ours[name]["draw"].values.tolist() == list(range(30))


def test_a_store_that_grows_keeps_its_coordinates(tmp_path):
    for num_draws in (30, 70):
        path = on_disk(tmp_path, normal, np.zeros(2), num_draws=num_draws)
        theirs = xarray.open_datatree(path, engine="zarr")
        assert theirs["posterior"].sizes["draw"] == num_draws
        assert theirs["posterior"]["draw"].values[-1] == num_draws - 1
    store = DrawStore.open(path, write=True)
    store.trim(20)
    store.finish()
    assert xarray.open_datatree(path, engine="zarr")["posterior"].sizes["draw"] == 20


def test_a_store_without_coordinates_is_read_as_before(tmp_path):
    """What runs of earlier versions look like."""
    import shutil

    path = on_disk(tmp_path, normal, np.zeros(2))
    expected = open_draws(path).load()
    for group in ("posterior", "sample_stats"):
        for name in ("chain", "draw", "x_dim_0"):
            shutil.rmtree(path / group / name, ignore_errors=True)
    xarray.testing.assert_identical(open_draws(path), expected)


def test_a_coordinate_that_capriole_would_not_write_is_refused(tmp_path):
    path = on_disk(tmp_path, normal, np.zeros(2))
    file = path / "posterior" / "draw" / "zarr.json"
    file.write_text(file.read_text().replace("crc32c", "pickle"))
    with pytest.raises(capriole.runs.RunFolderError, match="it is no coordinate of draws"):
        open_draws(path)


@pytest.mark.parametrize("name", ["../../out", "", "..", 7, None])
def test_a_name_of_an_axis_never_leads_out_of_the_store(name, tmp_path):
    """Coordinates are written under these names when a run goes on."""
    path = on_disk(tmp_path, normal, np.zeros(2))
    file = path / "posterior" / "x" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["dimension_names"][2] = name
    file.write_text(json.dumps(metadata))
    with pytest.raises(capriole.runs.RunFolderError, match="its axes have names that cannot be"):
        DrawStore.open(path, write=True)


def test_a_length_that_a_file_claims_fills_no_memory(tmp_path):
    array = {"shape": [10**11, 10, 2], "dimension_names": ["chain", "draw", "x_dim_0"]}
    found = coordinates_of(Layout({"posterior/x": array}, 0, 1, ["x"], 1), "posterior", 10)
    assert set(found) == {"draw", "x_dim_0"}


def test_float32_draws_average_well(tmp_path):
    """NumPy adds float32 numbers along outer axes in float32."""
    init = {"x": np.full(2, 1e6), "y": np.asarray(1e6)}
    kernel, _ = kernel_of(far, init, "float32")
    options = {"num_warmup": 0, "num_chains": 16, "num_draws": 1000, "spread": 1e-3}
    with jax.enable_x64(False):
        trees = [capriole.sample(kernel, init, **options)]
    sizes = {"num_chains": 16, "num_draws": 1000}
    path = on_disk(tmp_path, far, init, "float32", **sizes)
    assert np.dtype(DrawStore.open(path).read("posterior/x").dtype) == np.float32
    trees += [open_draws(path), xarray.open_datatree(path, engine="zarr")]
    for tree in trees:
        for name in ("x", "y"):
            draws = tree["posterior"][name]
            assert draws.dtype == tree["sample_stats"]["lp"].dtype == np.float64
            exact = draws.values.astype(np.longdouble)
            assert float(draws.mean()) == pytest.approx(float(exact.mean()), abs=1e-6)
            assert float(draws.std()) == pytest.approx(float(exact.std()), rel=1e-6)
            assert abs(float(draws.mean()) - 1e6) < 1


def test_numbers_are_read_as_they_were_written():
    assert AS_FLOAT64 == {"scale_factor": 1.0, "add_offset": 0.0}


def test_trace_plots_and_netcdf(tmp_path):
    arviz = pytest.importorskip("arviz")
    pytest.importorskip("h5netcdf")
    pytest.importorskip("h5py")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    tree = arviz.from_zarr(on_disk(tmp_path, normal, CLASHING[0]))
    assert arviz.plot_trace(tree) is not None
    kernel, _ = kernel_of(normal, CLASHING[0])
    in_memory = capriole.sample(kernel, CLASHING[0], num_warmup=0, **DRAWS)
    for each in (tree, in_memory):
        each.to_netcdf(tmp_path / "draws.nc")
        with xarray.open_datatree(tmp_path / "draws.nc") as back:
            xarray.testing.assert_equal(back.load(), each.load())
