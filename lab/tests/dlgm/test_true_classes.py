"""Counts of in-painted classes against known class frequencies."""

import numpy as np
import pytest

from capriole_lab.dlgm import (
    ClassShares,
    Inpainted,
    Reference,
    class_shares,
    count_classes,
    counts,
    total_variation,
)
from capriole_lab.dlgm.measures._true_classes import COUNTS, count_rows, reference_facts, true_rows
from capriole_lab.dlgm.report._goals import verdicts

TRUTH = np.array(
    [[0.7, 0.2, 0.08, 0.02, 0.0], [0.995, 0.0, 0.005, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]]
)
SEEN = np.array([[0.8, 0.0, 0.0, 0.0, 0.2], [0.5, 0.0, 0.02, 0.0, 0.48], [0.5, 0.5, 0.0, 0.0, 0.0]])


def shares(every, sure=None):
    return ClassShares(every, every if sure is None else sure)


def reference(every=TRUTH, sure=None):
    return Reference(shares(every, sure), np.zeros(len(every)))


def of(name, seen=SEEN, truth=TRUTH):
    return {
        figure: list(values)
        for figure, values in count_classes(shares(seen), shares(truth), COUNTS[name]).items()
    }


def test_visited_classes_are_told_into_true_and_spurious():
    found = of("true")
    assert found["visited"] == [2, 2, 2]
    assert found["reached"] == [1, 1, 2]
    assert found["spurious"] == [1, 1, 0]
    assert found["recall"] == [1 / 4, 1, 1]
    assert found["spurious_share"] == pytest.approx([0.2, 0.5, 0])
    assert found["total_variation"] == pytest.approx([0.3, 0.495, 0])


def test_the_thresholds_decide_what_is_true_and_what_is_visited():
    assert of("higher")["recall"] == [1 / 3, 1, 1]
    assert of("lower")["recall"] == [1 / 4, 1 / 2, 1]
    assert of("once")["visited"] == [2, 3, 2]
    assert of("once")["spurious"] == [1, 2, 0]
    assert of("lower")["spurious_share"] == pytest.approx([0.2, 0.48, 0])


def test_ambiguous_images_are_chosen_by_the_reference_and_sure_pictures_by_the_classifier():
    assert of("ambiguous")["visited"] == [2, 2]
    sure, sure_truth = SEEN * [1, 1, 1, 1, 0], np.where(TRUTH > 0.6, TRUTH, 0)
    found = count_classes(shares(SEEN, sure), shares(TRUTH, sure_truth), COUNTS["sure"])
    assert list(found["spurious"]) == [0, 0, 2]
    assert list(found["recall"]) == [1, 1, 1], "nothing to be reached in the third image"
    # What nobody is sure of is one class more: 0.2 against 0.3, 0.48 against 0, 0 against 1.
    assert found["total_variation"] == pytest.approx([0.1, 0.495, 1])


def test_total_variation_is_a_distance_of_distributions():
    rng = np.random.default_rng(0)
    p, q, r = rng.dirichlet(np.ones(4), size=(3, 50))
    assert total_variation(p, p) == pytest.approx(np.zeros(50))
    assert np.all(total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + 1e-12)
    assert total_variation(np.array([[1.0, 0]]), np.array([[0, 1.0]])) == [1]
    assert total_variation(p[:, :3], q[:, :3]) == pytest.approx(total_variation(p, q))


def test_shares_leave_out_the_first_fifth_and_unsure_pictures():
    classes = np.array([[2, 2]] * 2 + [[0, 1]] * 4 + [[1, 1]] * 4)
    confidence = np.where(classes == 1, 0.6, 0.95)
    run = Inpainted(classes, confidence, {}, np.zeros((0, 2)))
    assert class_shares(run, 3) == pytest.approx(np.array([[0.5, 0.5, 0], [0, 1, 0]]))
    assert class_shares(run, 3, above=0.9) == pytest.approx(np.array([[0.5, 0, 0], [0, 0, 0]]))


def test_differences_are_paired_over_images():
    better = np.array(
        [[0.7, 0.2, 0.1, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]]
    )
    found = counts(shares(better), reference(), less=shares(SEEN))
    assert found["true"]["reached"] == {"mean": pytest.approx(2 / 3), "se": pytest.approx(2 / 3)}
    assert found["true"]["spurious"]["mean"] == pytest.approx(-2 / 3)
    assert found["true"]["visited"]["mean"] == pytest.approx(0), (
        "the plain count sees no difference"
    )
    assert found["true"]["total_variation"]["mean"] < 0
    assert counts(shares(better), reference())["true"]["reached"]["mean"] == pytest.approx(2)


def test_facts_of_the_reference_and_counts_without_images():
    facts = reference_facts(reference())
    assert facts["true_classes"]["true"]["mean"] == pytest.approx((4 + 1 + 2) / 3)
    assert facts["num_images"] == {name: 2 if name == "ambiguous" else 3 for name in COUNTS}
    certain = reference(np.eye(3))
    assert "ambiguous" not in reference_facts(certain)["num_images"]
    assert "ambiguous" not in counts(shares(np.eye(3)), certain)


def test_rows_of_tables_fit_stored_files_of_this_version_and_of_earlier_ones():
    stored = {
        "reference": reference_facts(reference()),
        "encoder": {"counts": counts(shares(SEEN), reference())},
        "difference": {"counts": counts(shares(TRUTH), reference(), less=shares(SEEN))},
    }
    rows = true_rows(
        "VAE", 0, stored, {"encoder": "q", "sampler": "the sampler", "difference": "less q, paired"}
    )
    assert [row[2] for row in rows] == ["q", "less q, paired"]
    assert rows[0][3:6] == ["2.33 ± 0.88", "2.00 ± 0.00", "1.33 ± 0.33"]
    assert rows[1][3] == ""
    assert [row[3] for row in count_rows("VAE", 0, stored)] == ["3", "3", "3", "3", "3", "2"]
    assert (
        true_rows("VAE", 0, {"encoder": {}}, {"encoder": "q"})
        == count_rows("VAE", 0, {"difference": {}})
        == []
    )


def test_the_goal_takes_all_seeds_together():
    def painted(more, counted=()):
        figures = {"encoder": {"mean": 1.5, "se": 0.1}, "sampler": {"mean": 1.5 + more, "se": 0.1}}
        figures["difference"] = {"mean": more, "se": 0.1}
        return {
            "scheme": "l2hmc", "evaluation": None, "sampling": None, "posterior": None,
            "inpainting": {
                name: {"distinct_classes": figure} | dict(counted)
                for name, figure in figures.items()
            },
        }  # fmt: skip

    def goal(*more, counted=()):
        (found,) = verdicts(
            {"differences": [], "models": [painted(value, counted) for value in more]}
        )
        return found

    assert goal(0.3).passed
    assert goal(0.3).measured == "+0.30 ± 0.10 (1.80 less 1.50, paired over images)"
    assert not goal(0.9, 0.0).passed, "seeds that disagree count against it"
    assert goal(0.3, 0.3).measured.endswith("by seed: +0.30, +0.30)")
    true = {
        "counts": {
            "true": {"reached": {"mean": 0.4, "se": 0.1}, "spurious": {"mean": -0.6, "se": 0.2}}
        }
    }
    beside = goal(-0.2, counted=true)
    assert beside.measured.endswith("; true ones +0.40 ± 0.10, spurious -0.60 ± 0.20")
    assert not beside.passed, "the plain count decides"
