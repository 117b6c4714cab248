"""Transport maps as a proposer: one that gains nothing is left, and what it cost counts."""

import jax
import numpy as np
import pytest

from capriole.adaptation import Profile
from capriole.fitting import Addition, Coordinates, Kind, NoteKind
from capriole.fitting.proposers import TransportMaps, _transport
from capriole.fitting.proposers._transport import TransportSearch
from stored import candidate, context

KNOWN = Profile((0,), np.zeros((1, 1)), np.ones(1), np.ones(1), np.zeros((1, 1, 2)))


@pytest.fixture
def proposed(monkeypatch):
    """Before and after a map whose candidate has a certain rate; None where no map is tried."""

    def propose(worst, *, agreed=True, before=0.1, **changes):
        known = context([candidate(worst=before, **changes)])
        account = known.budget.open()
        account.charge(30)
        warmup = known.warmup._replace(profile=KNOWN, num_stuck=0 if agreed else 1)
        there = candidate(worst=worst, account=account, coordinates=Coordinates.TRANSPORT)

        def transported(context):
            context.budget.common.charge(400)
            return TransportSearch(warmup, [there], 1.0, (0,))

        monkeypatch.setattr(_transport, "transported", transported)
        monkeypatch.setattr(_transport, "validate_best", lambda context, *args: context)
        return known, TransportMaps().propose(known)

    return propose


@pytest.mark.parametrize(("worst", "agreed"), [(0.1, True), (0.05, True), (0.3, False)])
def test_what_a_transport_map_that_is_left_cost_counts(proposed, worst, agreed):
    before, after = proposed(worst, agreed=agreed)
    assert after.candidates == before.candidates
    assert after.warmup.position is before.warmup.position
    assert after.warmup.agreed
    assert after.warmup.profile is KNOWN, "what was learnt of the parents stays"
    assert after.budget.common.cost.num_gradients == 430
    assert after.budget.total.num_gradients == 430
    (note,) = after.notes
    assert note.kind is NoteKind.TRANSPORT_MAP
    assert "tried and left" in note.text


def test_candidates_of_a_better_map_come_first(proposed):
    before, after = proposed(0.2)
    assert [c.name for c in after.candidates] == ["transported rotation", "rotation"]
    assert after.candidates[1] is before.candidates[0]
    assert after.base.coordinates is Coordinates.TRANSPORT
    assert (after.budget.common.cost.num_gradients, after.budget.total.num_gradients) == (400, 430)
    assert "x[0] as parent" in after.notes[0].text


def test_no_map_is_tried_where_rotations_are_fast_unless_chains_may_be_held(proposed):
    before, after = proposed(0.5, before=0.4)
    assert after is before
    before, after = proposed(0.5, before=0.4, kind=Kind.PCN, additions=(Addition.ROTATION,))
    assert len(after.candidates) == 2


def test_numpys_numbers_hang_on_the_seed_of_the_fit():
    def first(seed, index):
        return _transport._generator(jax.random.key(seed), index).normal()

    assert first(1, 2) == first(1, 2)
    assert len({first(seed, index) for seed in range(3) for index in range(7)}) == 21
