"""The peers bench: same starts for all, draws held against the truth, longer runs where they help,
command and page.
"""

import json
import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers_cells import all_cells, cell
from typer.testing import CliRunner

from capriole.sampling import CountedDraws
from capriole_lab.cells import PRESETS, run_cells
from capriole_lab.cli._app import app
from capriole_lab.peers import _plan as _peers
from capriole_lab.peers import _runs as _peers_runs
from capriole_lab.peers._cell import give_up, problems, run_cell
from capriole_lab.peers._goals import GOALS
from capriole_lab.peers._report import load_cells, render, write_report
from capriole_lab.peers._runs import BenchRun, run_sampler, started
from capriole_lab.peers._settings import (
    BENCH_TARGETS,
    DEFAULT_SAMPLERS,
    TOY,
    PeersSettings,
    chosen_samplers,
    chosen_targets,
    peers_settings,
)
from capriole_lab.peers._tables import short
from capriole_lab.peers._truth import modes, moments, truth
from capriole_lab.targets import (
    MODELS,
    POSTERIORS,
    TARGETS,
    PosteriordbError,
    make_target,
    reference_draws,
)
from commands import ENVIRONMENT
from pages import parsed


@pytest.mark.parametrize("preset", PRESETS)
def test_every_target_has_a_budget(preset):
    assert set(BENCH_TARGETS) <= set(TARGETS | MODELS | POSTERIORS)
    for target in BENCH_TARGETS:
        settings = peers_settings(target, preset)
        assert settings.dtype == ("float64" if target in MODELS | POSTERIORS else "float32")
        assert settings.chains("chees") > settings.chains("nuts") >= 8
    assert peers_settings("funnel", preset).coordinates == 1


def test_names_and_sets_are_expanded_and_what_is_unknown_is_refused(monkeypatch, tmp_path):
    assert chosen_targets(["toy", "scg", "coal"])[0] == [
        "scg",
        "icg",
        "mog",
        "mog-asym",
        "rougher-well",
        "funnel",
        "coal",
    ]
    assert chosen_samplers([]) == list(DEFAULT_SAMPLERS)
    with pytest.raises(
        ValueError,
        match=r"unknown target of the peers bench 'arK-arK'; did you mean 'posteriordb/arK",
    ):
        chosen_targets(["arK-arK"])
    with pytest.raises(ValueError, match="unknown sampler 'nut'; did you mean 'nuts'"):
        chosen_samplers(["nut"])
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        _peers.plan(["scg"], ["nuts"], 1, "huge", tmp_path)
    monkeypatch.setenv("CAPRIOLE_POSTERIORDB", str(tmp_path))
    names, remark = chosen_targets([])
    assert names == [name for name in BENCH_TARGETS if name not in POSTERIORS]
    assert "holds no posteriordb checkout" in remark
    named = next(iter(POSTERIORS))
    assert chosen_targets([named]) == ([named], "")


def test_cells_are_planned_seed_by_seed(tmp_path):
    specs = _peers.plan(["scg", "posteriordb/arK-arK"], ["capriole", "nuts"], 2, "smoke", tmp_path)
    assert len({spec.path for spec in specs}) == len(specs) == 8
    assert [(s.target, s.sampler, s.seed) for s in specs[:3]] == [
        ("scg", "capriole", 0),
        ("scg", "nuts", 0),
        ("posteriordb/arK-arK", "capriole", 0),
    ]
    assert {spec.path.parent for spec in specs} == {tmp_path / "cells"}


def test_the_starts_of_a_seed_are_the_same_for_any_key_and_number():
    target = make_target("mog", dtype=jnp.float32)
    same = started(target, 3)
    first, many = same.start(jax.random.key(0), 16), same.start(jax.random.key(1), 64)
    np.testing.assert_array_equal(first, many[:, :16])
    other = started(target, 4).start(jax.random.key(0), 16)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(same(first), target(first))


def bench_run(position, num_gradients=1000):
    return BenchRun(position, position.shape[1], num_gradients, 1.0, 0, 0.0, 0.0, 0.9, {})


def test_a_run_is_made_longer_only_where_that_may_help(monkeypatch):
    target = make_target("scg", dtype=jnp.float32)
    noise = np.random.default_rng(0).standard_normal((16, 400, 2))
    asked = []

    def drawing(offset, cost=1000):
        def run(name, key, target, starts, settings, *, num_draws):
            asked.append(num_draws)
            return bench_run(noise + offset * np.arange(16)[:, None, None], cost)

        return run

    for offset, cost, expected in (
        (0.0, 1000, [400]),
        (0.04, 1000, [400, 1600, 6400]),  # the second run is no better
        (0.1, 1000, [400, 6400]),
        (0.1, 100_000_000, [400]),  # 16 times as many gradients are beyond the budget
        (3.0, 1000, [400]),  # hopeless
    ):
        asked.clear()
        monkeypatch.setattr(_peers_runs, "peer_run", drawing(offset, cost))
        run_sampler("nuts", target, 0, PeersSettings(num_draws=400))
        assert asked == expected, (offset, cost)


def exact(name, seed=0, chains=16, draws=500):
    target = make_target(name)
    flat = np.asarray(target.sample(jax.random.key(seed), chains * draws))
    return target, flat.T.reshape(chains, draws, target.dim)


def test_exact_draws_agree_with_exact_moments_and_wrong_ones_do_not():
    target, position = exact("icg")
    right = truth("icg", target, position, None)
    assert right["passed"]
    assert 1 < right["max_abs_z"] < 5.2
    shifted = position + np.where(np.arange(50) == 17, 0.1, 0.0) * np.sqrt(target.variance)
    assert truth("icg", target, shifted, None)["passed"] is False
    stretched = truth("icg", target, 1.1 * position, None)
    assert stretched["max_abs_z_square"] > 5.2 > stretched["max_abs_z_mean"]
    assert truth("icg", target, 0 * position, None)["passed"] is False


def test_of_the_funnel_only_the_neck_is_judged():
    target, position = exact("funnel")
    assert truth("funnel", target, position, 1)["passed"]
    narrow = position * np.where(np.arange(10) == 0, 0.85, 1.0)
    assert truth("funnel", target, narrow, 1)["passed"] is False


def test_modes_must_have_their_weights_and_chains_must_change_them():
    target, position = exact("mog")
    assert modes(target, position)["passed"]
    split = np.concatenate(
        [np.asarray(target.sample_mode(jax.random.key(1), 4000, i)).T for i in (0, 1)]
    )
    stuck = modes(target, split.reshape(16, 500, 2))
    np.testing.assert_allclose(stuck["weights"], 0.5)
    assert not stuck["passed"]
    one = modes(target, split.reshape(16, 500, 2)[:8])
    assert not one["passed"]
    assert one["switches_per_draw"] == 0


def test_draws_of_a_posterior_are_held_against_the_reference():
    name = "posteriordb/sblrc-blr"
    try:
        target, reference = make_target(name), reference_draws("sblrc-blr")
    except PosteriordbError as error:
        pytest.skip(str(error))
    position = np.moveaxis(np.asarray(target.unconstrain(reference)), 0, -1)
    found = truth(name, target, position, None)
    assert found["passed"]
    assert found["kind"] == "reference draws"
    assert truth(name, target, 1.1 * position, None)["passed"] is False


def test_moments_are_those_of_the_draws_with_their_errors():
    _, position = exact("scg")
    found = moments(position)
    flat = position.reshape(-1, 2)
    np.testing.assert_allclose(found["mean"], flat.mean(0))
    np.testing.assert_allclose(found["variance"], flat.var(0))
    np.testing.assert_allclose(found["mean_error"], flat.std(0) / np.sqrt(len(flat)), rtol=0.1)


def test_every_kind_of_trouble_is_a_problem():
    good = cell("mog", "capriole", 0.5)
    assert problems(good) == []
    wrong_weights = {"weights": [1.0, 0.0], "rhat": 1.0, "passed": False}
    for changes, words in (
        ({"rhat_max": 1.01}, "R-hat 1.010"),
        ({"rhat_max": float("nan")}, "R-hat nan"),
        (
            {"truth": {"kind": "exact moments", "max_abs_z": 7.0, "passed": False}},
            "misses the exact moments: |z| 7",
        ),
        ({"modes": wrong_weights}, "mode weights: 1.000, 0.000"),
        ({"one_mode": wrong_weights}, "all chains started in one mode: 1.000, 0.000"),
        ({"settings": {"failed": True}}, "capriole.fit says failed"),
    ):
        (found,) = problems(good | changes)
        assert words in found


@pytest.mark.filterwarnings("ignore")  # what BlackJAX and ArviZ say of so few draws
def test_a_peer_on_modes_is_run_from_one_mode_too_and_fails(tmp_path, standard_promotion):
    run_cell("mog", "nuts", 0, "smoke", tmp_path / "cell")
    record = json.loads((tmp_path / "cell" / "cell.json").read_text())
    assert record["one_mode"]["weights"] == [1, 0]
    assert give_up("mog", "nuts", 1, "smoke", tmp_path / "late", 5).keys() == record.keys()
    assert record["num_chains"] == 8
    assert record["dtype"] == "float32"
    assert any("all chains started in one mode" in problem for problem in record["problems"])
    assert record["preparation"]["num_gradients"] > 8 * 50
    assert record["ess_per_gradient"] == pytest.approx(
        min(record["bulk_ess"], record["bulk_ess_sq"]) / record["num_gradients"]
    )


def test_what_a_flow_learned_from_dispersed_starts_is_asked_from_one_mode(monkeypatch):
    """As `capriole.fit`'s frozen kernel is; others adapt where they start."""
    seen = {}

    def peer(name, key, target, starts, *, num_draws, num_warmup, draw_from=None):
        seen[name] = np.asarray(starts), draw_from
        return CountedDraws(
            np.zeros((len(starts.T), num_draws, 2)), 1, 1, 1.0, 1.0, 1.0, 0.9, 0, {}
        )

    monkeypatch.setattr(_peers_runs, "run_peer", peer)
    target, settings = make_target("mog"), peers_settings("mog", "smoke")
    for name in ("flowmc", "nuts"):
        _peers_runs.run_one_mode(name, target, 0, settings, bench_run(np.zeros((8, 10, 2))), None)
    (dispersed, put), (starts, nowhere) = seen["flowmc"], seen["nuts"]
    assert nowhere is None
    np.testing.assert_array_equal(put, starts)
    assert set(np.asarray(target.mode(starts))) == {0}
    assert set(np.asarray(target.mode(jnp.asarray(dispersed)))) == {0, 1}


def test_the_page_holds_every_target_and_figure_and_fetches_nothing():
    asked = {*TOY, "coal", "logistic", *(goal for each in GOALS for goal in each.only)}
    cells = {target: found for target, found in all_cells().items() if target in asked}
    cells["scg"][1]["problems"] = ["R-hat 1.234 after 1000 steps per chain"]
    page = render(cells)
    tags = parsed(page)
    images = [attrs["src"] for tag, attrs in tags if tag == "img"]
    assert len(images) == 3  # rates; break-even in gradients and in seconds
    assert all(len(source) > 2000 for source in images)
    for target in cells:
        assert short(target) in page
    assert "R-hat 1.234 after 1000 steps per chain" in page
    assert page.count('class="good"') == len(GOALS)
    parsed(render({"scg": [cells["scg"][1]]}))  # nobody passes


def test_cells_are_loaded_in_order_and_the_summary_stands_beside_the_page(tmp_path):
    cells = {
        target: found for target, found in all_cells(2).items() if target in ("scg", "icg", "coal")
    }
    for i, each in enumerate(each for found in reversed(cells.values()) for each in found):
        path = tmp_path / "cells" / str(i)
        path.mkdir(parents=True)
        (path / "cell.json").write_text(json.dumps(each))
    (tmp_path / "cells" / "unfinished").mkdir()
    loaded = load_cells(tmp_path / "cells")
    assert list(loaded) == ["scg", "icg", "coal"]
    assert [(c["sampler"], c["seed"]) for c in loaded["scg"][:3]] == [
        ("capriole", 0),
        ("capriole", 1),
        ("nuts", 0),
    ]
    write_report(tmp_path / "cells", tmp_path / "peers.html")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["goals"]) == 8
    assert all(goal["passed"] for goal in summary["goals"])
    assert summary["targets"]["scg"]["ratio_per_gradient"] == pytest.approx(4)
    assert summary["seeds"] == [0, 1]
    with pytest.raises(ValueError, match="no finished cell"):
        write_report(tmp_path / "nothing", tmp_path / "peers.html")


def test_the_whole_command_and_that_it_goes_on_where_it_stopped(tmp_path):
    """The command is called in this process; the cell that is missing has a process of its own, as
    for a user.
    """
    out = tmp_path / "bench"
    specs = _peers.plan(["scg"], ["capriole", "nuts-dense"], 1, "smoke", out)
    specs[1].path.mkdir(parents=True)
    finished = specs[1].path / "cell.json"
    finished.write_text(before := json.dumps(cell("scg", "nuts-dense", 0.1) | {"preset": "smoke"}))
    words = [
        "bench",
        "peers",
        "--preset",
        "smoke",
        "--targets",
        "scg",
        "--samplers",
        "capriole, nuts-dense",
    ]
    done = CliRunner().invoke(app, [*words, "--out", str(out)], env=ENVIRONMENT)
    logs = {path.parent.name: path.read_text()[-2000:] for path in out.glob("cells/*/log.txt")}
    assert done.exit_code == 0, (done.output, done.exception, logs)
    assert "1 of 2 cells to run" in done.stderr
    assert "2/2" in done.stderr
    assert finished.read_text() == before
    assert _peers.plan(["scg"], ["capriole", "nuts-dense"], 1, "smoke", out) == specs, (
        "the new cell is of this preset"
    )
    assert all(spec.done for spec in specs), "called again, it would run nothing"
    cells = load_cells(out / "cells")
    assert [c["sampler"] for c in cells["scg"]] == ["capriole", "nuts-dense"]
    ours = cells["scg"][0]
    assert ours["settings"]["chosen"]
    assert (
        ours["preparation"]["num_gradients"]
        > ours["settings"]["settings"]["preparation"]["num_gradients"]
    )
    parsed((out / "peers.html").read_text())
    assert json.loads((out / "summary.json").read_text())["preset"] == ["smoke"]


def test_cells_of_two_presets_do_not_share_a_page(tmp_path):
    path = tmp_path / "cells" / "scg-nuts-0" / "cell.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(cell("scg", "nuts", 0.1)))
    assert _peers.plan(["scg"], ["nuts"], 1, "laptop", tmp_path)[0].done
    with pytest.raises(
        ValueError, match=r"holds cells of the preset 'laptop'.*'smoke'.*another --out"
    ):
        _peers.plan(["scg"], ["nuts"], 1, "smoke", tmp_path)
    path.write_text('{"preset": "lap')
    with pytest.raises(ValueError, match=r"scg-nuts-0/cell.json is damaged.*remove its folder"):
        _peers.plan(["scg"], ["nuts"], 1, "laptop", tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no cell"):
        load_cells(tmp_path / "cells")


def test_a_late_cell_is_stored_from_a_process_in_single_precision(tmp_path):
    target = "posteriordb/gp_pois_regr-gp_pois_regr"
    try:
        with jax.enable_x64(False):
            late = give_up(target, "nutpie", 0, "laptop", tmp_path / "late", 5)
    except PosteriordbError as error:
        pytest.skip(str(error))
    assert (late["dim"], late["dtype"]) == (13, "float64")


def sleeping(spec):
    """A process that never writes its cell."""
    spec.path.mkdir(parents=True)
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_cell_that_takes_too_long_is_stored_as_one_that_does_not_pass(monkeypatch, tmp_path):
    for seed, rate in enumerate((0.5, 0.4)):
        path = tmp_path / "cells" / f"batting-nuts-{seed}"
        path.mkdir(parents=True)
        (path / "cell.json").write_text(json.dumps(cell("batting", "nuts", rate, seed)))
    specs = _peers.plan(["batting"], ["nuts"], 3, "laptop", tmp_path)
    monkeypatch.setattr(_peers, "command_of", lambda *words, preset: sleeping)
    events = []
    assert _peers.run_peers(specs, "laptop", minutes=0.01, on_event=events.append) == []
    assert [(event.done, event.failed, event.late) for event in events] == [(3, False, True)]
    assert "3/3  batting, nuts, seed 2: given up" in events[0].line()
    found = load_cells(tmp_path / "cells")
    assert found["batting"][-1]["problems"] == ["not within 0.01 minutes"]
    assert found["batting"][-1]["dim"] == 20
    assert "not within 0.01 minutes" not in render(found)  # two of three seeds pass
    page = render({"batting": found["batting"][2:]})
    assert "not within 0.01 minutes" in page
    more = _peers.plan(["batting"], ["nuts", "chees"], 4, "laptop", tmp_path)
    assert (
        _peers.run_peers(more, "laptop", minutes=0.02, on_event=events.append) == []
    )  # longer: it is tried again
    tried = [
        cell["problems"]
        for cell in load_cells(tmp_path / "cells")["batting"]
        if cell["num_draws"] is None
    ]
    late, spared = ["not within 0.02 minutes"], ["not tried: not within 0.02 minutes at seed 0"]
    assert tried == [["not within 0.01 minutes"], late, late, spared, spared, spared]
    assert [event.done for event in events] == [3, 4, 5, 6, 7, 8]
    words = [
        "bench",
        "peers",
        "--targets",
        "scg",
        "--samplers",
        "nuts",
        "--limit",
        "0",
        "--out",
        str(tmp_path / "none"),
    ]
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, "got a limit of 0 minutes" in refused.output) == (2, True)
    specs = _peers.plan(["batting"], ["mclmc"], 1, "laptop", tmp_path)


def test_sigterm_ends_the_cells_too(tmp_path):
    specs, started = _peers.plan(["batting"], ["mclmc"], 1, "laptop", tmp_path), []

    def asleep(spec):
        started.append(sleeping(spec))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return started[-1]

    with pytest.raises(KeyboardInterrupt):
        run_cells(specs, asleep)
    assert started[0].poll() is not None, "SIGTERM leaves no cell running"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_cell_that_nobody_gives_up_is_tried_again(tmp_path):
    specs = _peers.plan(["batting"], ["mclmc"], 1, "laptop", tmp_path)
    assert (
        run_cells(specs, sleeping, limit=0.2) == specs
    )  # nobody to write it: failed, to be tried again
    assert not specs[0].done
