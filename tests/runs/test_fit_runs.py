"""`capriole.fit` in a run folder: killed, stopped, resumed and extended, it draws what it would
have drawn.
"""

import json
import signal
import time

import fitted
import jax
import numpy as np
import pytest

import capriole
from capriole import diagnostics, save
from capriole.diagnostics import not_mixed
from capriole.fitting import (
    Cost,
    InMemory,
    KernelSampler,
    Kind,
    Note,
    NoteKind,
    _api,
    run_until_mixed,
)
from capriole.kernels import hmc
from capriole.runs import CheckpointError, RunFolder, RunFolderError, open_draws
from capriole.runs._found import read_search, write_search
from capriole.runtime import to_plain
from stored import BY_NUTS, quick_nuts, row, stored_found

pytestmark = pytest.mark.usefixtures("standard_promotion")

SEPARATION = not_mixed(1.3, 1.01)
"""What the checks of draws say where they are made to fail."""


def nuts_first(keys, target, position, settings, progress, **options):
    """A search that chose NUTS; its best rotation stands by where NUTS is compared."""
    found = stored_found(target, num_chains=settings.num_chains, **BY_NUTS)
    return found if settings.compare else found._replace(kernel=None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run, and its draws."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with jax.numpy_dtype_promotion("standard"):
        found = fitted.tiny_fit(folder)
    return folder, fitted.drawn(folder), found


def test_the_folder_holds_what_memory_would(whole):
    folder, draws, found = whole
    with jax.numpy_dtype_promotion("standard"):
        memory = fitted.in_memory()
    for name in ("a", "b"):
        np.testing.assert_array_equal(
            found.tree["posterior"][name].values, memory.tree["posterior"][name].values
        )
        np.testing.assert_array_equal(draws[name], memory.tree["posterior"][name].values)
    assert found.tree["posterior"].attrs["sampler"] == memory.tree["posterior"].attrs["sampler"]
    stored = capriole.Verdict.read(json.loads((folder / "verdict.json").read_text()))
    assert stored.table() == found.verdict.table()
    events = [
        json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert events[0] == "warmup"
    assert events[-1] == "sample"


@pytest.mark.parametrize("stage", ["search", "draws"])
def test_killed_and_resumed(whole, tmp_path, stage):
    """SIGKILL in the first half of a run's search, or after the first checkpoint with draws."""
    folder = tmp_path / "run"
    process = fitted.start(folder)
    trigger = {"search": "metrics.jsonl", "draws": "checkpoints/draws-0.*[1-9]*.safetensors"}[stage]
    while not list(folder.glob(trigger)) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run was over before it could be killed"
    assert list((folder / "checkpoints").glob("search.*")) == [] or stage == "draws"
    fitted.tiny_fit(folder)
    assert_same(fitted.drawn(folder), whole[1])


def test_jaxs_setting_of_precision_may_change_between_two_parts_of_a_run(whole, tmp_path):
    folder = tmp_path / "run"
    with jax.enable_x64(False), pytest.raises(KeyboardInterrupt):
        fitted.tiny_fit(folder, progress=fitted.stop_at("sample", 200))
    fitted.tiny_fit(folder, progress=fitted.never("warmup"))
    assert_same(fitted.drawn(folder), whole[1])
    with jax.enable_x64(False):
        again = fitted.tiny_fit(folder, progress=fitted.never("warmup"))
    np.testing.assert_array_equal(again.tree["posterior"]["b"].values, whole[1]["b"])


def test_extended_is_longer(whole, tmp_path):
    """Stopped while it draws, resumed, extended, stopped again: the draws of a run that was longer
    from the start.
    """
    folder, num = tmp_path / "run", fitted.OPTIONS["num_draws"]
    with pytest.raises(KeyboardInterrupt):
        fitted.tiny_fit(folder, progress=fitted.stop_at("sample", 200))
    with pytest.raises(RunFolderError, match="not finished; resume it before"):
        fitted.tiny_fit(folder, more=50)
    fitted.tiny_fit(folder, progress=fitted.never("warmup"))
    assert_same(fitted.drawn(folder), whole[1])
    with pytest.raises(KeyboardInterrupt):
        fitted.tiny_fit(folder, more=300, progress=fitted.stop_at("sample", num + 200))
    fitted.tiny_fit(folder)
    memory = fitted.in_memory(num_draws=num + 300)
    np.testing.assert_array_equal(fitted.drawn(folder)["b"], memory.tree["posterior"]["b"].values)
    assert open_draws(folder)["posterior"].attrs["failed"] == 0


def test_another_log_density_kernel_or_configuration_is_refused(whole, tmp_path):
    folder = fitted.copied(whole[0], tmp_path / "run")
    with pytest.raises(CheckpointError, match="not the one this run began with"):
        fitted.tiny_fit(folder, logdensity=lambda p: 2 * fitted.logdensity(p))
    with pytest.raises(RunFolderError, match="seed was 3, now 4"):
        fitted.tiny_fit(folder, seed=4)
    (folder / "kernel.safetensors").write_bytes(b"another")
    with pytest.raises(RunFolderError, match="not the kernel that the search of this run left"):
        fitted.tiny_fit(folder)


def test_a_search_rewritten_with_a_right_checksum_is_read(whole, tmp_path):
    folder = fitted.copied(whole[0], tmp_path / "run")
    note = Note(NoteKind.LEFT_OUT, "x")
    fitted.rewrite(folder, "notes", [to_plain(note)])
    assert fitted.tiny_fit(folder).verdict.notes == (note,)


@pytest.mark.parametrize(("field", "value", "message"), fitted.HOSTILE, ids=lambda v: str(v)[:20])
def test_hostile_searches_are_refused(whole, tmp_path, field, value, message):
    folder = fitted.copied(whole[0], tmp_path / "run")
    fitted.rewrite(folder, field, value)
    with pytest.raises(CheckpointError, match=message):
        fitted.tiny_fit(folder)


def test_the_search_before_serves_where_the_one_with_nuts_is_damaged(tmp_path):
    """Both are written, the kernel twice: with the same checksum, though safetensors orders its
    header by chance.
    """
    folder, found = RunFolder(tmp_path), fitted.by_hand()
    folder.claim({})
    kernel = tmp_path / "kernel.safetensors"
    rows = (row(), row(Kind.NUTS, measured_gradients=900))
    target = found.kernel.target.logdensity
    write_search(folder.checkpoints, kernel, target, found._replace(rows=rows[:1]))
    for _ in range(4):
        write_search(
            folder.checkpoints,
            kernel,
            target,
            found._replace(rows=rows, compared=Cost(1, 0.0, 0.0)),
        )
        newest = max((tmp_path / "checkpoints").glob("search.*"))
        content = newest.read_bytes()
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        stored = folder.checkpoints.read("search")
        assert stored.step == 1
        again = read_search(stored, kernel, target, num_chains=4, position=found.starts)
        assert [row.name for row in again.rows] == ["rotation"]
    (tmp_path / "other").mkdir()
    other = save(
        tmp_path / "other" / "kernel.safetensors",
        hmc(target, step_size=0.1, num_leapfrogs=2),
        dim=2,
    )
    with pytest.raises(
        RunFolderError, match="is not the kernel that the search of this run left there"
    ):
        read_search(stored, other, target, num_chains=4, position=found.starts)
    folder.close()


def test_draws_that_a_verdict_was_given_on_are_never_nutss(whole, tmp_path, monkeypatch):
    folder = fitted.copied(whole[0], tmp_path / "run")
    before = fitted.drawn(folder)
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [SEPARATION])
    monkeypatch.setattr(_api, "NutsSampler", lambda *args, **_: pytest.fail("NUTS is not to draw"))
    extended = fitted.tiny_fit(folder, more=100)
    assert extended.verdict.failed
    assert extended.transition is not None
    for name, values in fitted.drawn(folder).items():
        np.testing.assert_array_equal(values[:, :700], before[name], err_msg=name)
    keeper = fitted.Watched(RunFolder(folder, new=False))
    run = _api._Run([None, None], "3", None, None, keeper, None)
    drawn = _api._Drawn(None, (SEPARATION,), None, 1, True, Cost(), Cost())
    found = fitted.by_hand()._replace(compared=Cost(1, 0.0, 0.0))
    same, kept = run.compared(found, drawn)
    assert same is found
    assert kept is drawn
    keeper.folder.close()


def test_a_kernel_in_the_place_of_nuts_that_failed_is_kept(tmp_path, monkeypatch):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_nuts_problems", lambda *args: [SEPARATION])
    first = fitted.tiny_fit(tmp_path / "run", compare=True, search=nuts_first)
    assert first.verdict.chosen == "rotation"
    assert (tmp_path / "run" / "kernel.safetensors").is_file()
    before = fitted.drawn(tmp_path / "run")
    monkeypatch.setattr(_api, "NutsSampler", lambda *args, **_: pytest.fail("NUTS had its chance"))
    again = fitted.tiny_fit(tmp_path / "run", compare=True, search=None)
    assert again.verdict.recommendation == first.verdict.recommendation
    assert_same(fitted.drawn(tmp_path / "run"), before)


@pytest.mark.parametrize("passes", [2, 3])
def test_thinned_passes_go_on_where_they_were(tmp_path, monkeypatch, passes):
    """R-hat that is too high at first: the run is thinned, stopped in each pass, and ends as if it
    had not been.
    """
    found = fitted.by_hand()

    def final_run(keeper, progress):
        key, start = jax.random.key(1), found.starts
        return run_until_mixed(KernelSampler(key, found.kernel, start, 400, keeper, progress, ()))

    def run(name, stops):
        rhats = {pass_: (2.0 if pass_ < passes - 1 else 1.0) for pass_ in range(3)}
        keeper = None

        def rhat(_):
            return np.array([rhats[keeper.index]])

        monkeypatch.setattr(diagnostics, "rhat", rhat)
        for stop in stops:
            keeper = fitted.Watched(RunFolder(tmp_path / name, new=False))
            progress = keeper.begin(fitted.CONFIG, found.starts, fitted.stop_at(*stop))
            with pytest.raises(KeyboardInterrupt):
                final_run(keeper, progress)
            keeper.folder.close()
        keeper = fitted.Watched(RunFolder(tmp_path / name, new=False))
        progress = keeper.begin(fitted.CONFIG, found.starts, None)
        final = final_run(keeper, progress)
        keeper.folder.close()
        return final

    plain = run("plain", [])
    stopped = run(
        "stopped", [("sample", 200), ("sample 1 in 4", 200), ("sample 1 in 16", 200)][:passes]
    )
    assert (plain.thin, stopped.thin) == (4 ** (passes - 1),) * 2
    assert plain.spent.num_gradients == stopped.spent.num_gradients
    assert_same(stopped.draws.record._asdict(), plain.draws.record._asdict())

    keeper = fitted.Watched(RunFolder(tmp_path / "stopped", new=False), more=100)
    keeper.begin(fitted.CONFIG, found.starts, None)
    at = keeper.point(
        found.kernel, found.starts, lambda: pytest.fail("the warm-up is not repeated")
    )
    extended = final_run(keeper, None)
    key = jax.random.fold_in(jax.random.key(1), 3 + at.round)
    longer = InMemory().draws(at, key, found.kernel, num_draws=500, progress=None)
    assert_same(extended.draws.record._asdict(), longer.record._asdict())
    keeper.folder.close()


def test_draws_of_nuts_are_stored_whole(tmp_path, monkeypatch):
    quick_nuts(monkeypatch)
    found = fitted.tiny_fit(tmp_path / "run", search=nuts_first)
    quick_nuts(monkeypatch)
    again = fitted.tiny_fit(tmp_path / "run", search=None)
    np.testing.assert_array_equal(
        found.tree["posterior"]["b"].values, again.tree["posterior"]["b"].values
    )
    assert found.transition is None
    with pytest.raises(RunFolderError, match="cannot be extended"):
        fitted.tiny_fit(tmp_path / "run", more=10)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_nuts_in_the_place_of_a_kernel_that_failed_is_kept(tmp_path, monkeypatch):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [SEPARATION])
    options = {"num_chains": 16, "num_draws": 500, "compare": True}
    first = fitted.tiny_fit(tmp_path / "run", **options)
    assert first.verdict.chosen == "NUTS"
    assert not (tmp_path / "run" / "kernel.safetensors").exists()
    monkeypatch.undo()
    quick_nuts(monkeypatch)
    next_run = fitted.tiny_fit(tmp_path / "run", **options, search=None)
    assert next_run.verdict.chosen == "NUTS"
    np.testing.assert_array_equal(
        next_run.tree["posterior"]["b"].values, first.tree["posterior"]["b"].values
    )
