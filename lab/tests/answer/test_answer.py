"""What an answer costs: NUTS's costs from stored cells, the table, and one small run."""

import json

import pytest

from capriole_lab.answer import rivals, run_answer, summarise


def cell(folder, sampler, seed=0, **changes):
    values = {
        "target": "scg",
        "sampler": sampler,
        "seed": seed,
        "num_chains": 16,
        "problems": [],
        "ess_per_gradient": 0.1,
        "preparation": {"num_gradients": 8000},
    }
    path = folder / f"scg-{sampler}-{seed}" / "cell.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values | changes))


def test_the_costs_of_nuts_are_those_of_four_chains(tmp_path):
    cell(tmp_path, "nuts")
    cell(tmp_path, "nutpie", ess_per_gradient=0.5)
    cell(tmp_path, "nuts-dense", problems=["R-hat 1.2"])
    cell(tmp_path, "chees")
    found = rivals("scg", 1000, tmp_path)
    assert [(one["sampler"], one["num_gradients"]) for one in found] == [
        ("nutpie", 2000 + 2000),
        ("nuts", 2000 + 10_000),
    ]


def test_the_table_compares_medians_with_the_best_nuts(tmp_path):
    runs = [
        {"num_gradients": n, "seconds": 1.0, "failed": False, "silently_wrong": False}
        for n in (1000, 3000, 2000)
    ]
    nuts = [{"sampler": s, "num_gradients": n} for s, n in (("nuts", 4000), ("nutpie", 8000))]
    (tmp_path / "1000-scg.json").write_text(json.dumps({"runs": runs, "nuts": nuts}))
    (tmp_path / "1000-mog.json").write_text(json.dumps({"runs": runs, "nuts": []}))
    found = summarise(tmp_path)
    assert found["targets"]["1000-scg"]["ratio"] == pytest.approx(0.5)
    assert found["targets"]["1000-mog"]["ratio"] is None
    assert found["median_ratio"] == found["largest_ratio"] == pytest.approx(0.5)


def test_a_run_is_stored_and_not_run_again(tmp_path):
    told = []
    options = {"num_effective": 100, "seeds": 1, "peers": tmp_path, "out": tmp_path / "out"}
    run_answer(["scg"], **options, report=told.append)
    found = run_answer(["scg"], **options, report=told.append)
    assert len(told) == 1
    record = json.loads((tmp_path / "out" / "100-scg.json").read_text())
    assert record["runs"][0]["effective_draws"] >= 100
    assert found["targets"]["100-scg"]["seeds"] == 1
