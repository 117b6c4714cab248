"""Records as plain values and back, whoever wrote them."""

import dataclasses
import json
import math
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import pytest

from capriole.diagnostics import Moments, Problem, ProblemKind, Severity, moments
from capriole.fitting import Cost, Note, NoteKind, SamplerReport, WarmupFacts
from capriole.runtime import from_plain, to_plain
from capriole.runtime._records import MOST_CHARACTERS, MOST_ITEMS
from stored import row, warmup_facts

DEEP: Any = 0
for _ in range(800):
    DEEP = [DEEP]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(NamedTuple):
    count: int
    share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    colour: Colour
    inner: Inner
    several: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (1, "a")
    maybe: float | None = None
    is_true: bool = False
    free: dict[str, Any] = dataclasses.field(default_factory=dict)


OUTER = Outer("a", Colour.BLUE, Inner(3), (Inner(1, 0.25), Inner(2)), (7, "b"), 2.0, True)
PLAIN = to_plain(OUTER)


def through_json(value):
    return json.loads(json.dumps(to_plain(value), allow_nan=False))


def test_a_record_comes_back_through_json():
    assert from_plain(Outer, through_json(OUTER)) == OUTER


@pytest.mark.parametrize(
    "value",
    [
        row(),
        warmup_facts(moments=moments(np.random.default_rng(0).normal(size=(4, 50, 2)))),
        Cost(3, 1.0, 2.0),
        Note(NoteKind.LEFT_OUT, "no network was trained"),
        Problem(ProblemKind.STUCK, Severity.FATAL, "stuck", "draw more"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_records_of_a_run_come_back(value):
    again = from_plain(type(value), through_json(value))
    assert to_plain(again) == to_plain(value)
    assert type(again) is type(value)


def test_numbers_that_are_not_finite_become_none_and_come_back_as_nan():
    for value in (math.nan, math.inf, -math.inf):
        plain = through_json(Inner(1, value))
        assert plain["share"] is None
        assert math.isnan(from_plain(Inner, plain).share)
    assert from_plain(Outer, PLAIN | {"maybe": None}).maybe is None
    assert math.isnan(from_plain(SamplerReport, through_json(row(rhat_max=math.nan))).rhat_max)


def test_numbers_of_numpy_become_plain_ones():
    plain = to_plain({"a": np.float32(0.5), "b": np.arange(2), "c": np.array([np.nan])})
    assert plain == {"a": 0.5, "b": [0, 1], "c": [None]}
    assert [type(value) for value in plain["b"]] == [int, int]


def test_missing_fields_have_their_defaults_and_strange_ones_are_passed_over():
    few = {"name": "a", "colour": "red", "inner": {"count": 1, "stranger": DEEP}, "stranger": 1}
    assert from_plain(Outer, few) == Outer("a", Colour.RED, Inner(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 7}, "record.name is '7', expected a text"),
        ({"name": None}, "record.name is 'None', expected a text"),
        ({"name": "x" * (MOST_CHARACTERS + 1)}, "record.name is 'xxx"),
        ({"colour": "green"}, "record.colour is 'green', expected one of"),
        ({"colour": ["red"]}, "record.colour is .*, expected one of"),
        ({"colour": DEEP}, "record.colour is .*, expected one of"),
        ({"inner": 3}, "record.inner is '3', expected the fields of Inner"),
        ({"inner": [3, 0.5]}, "expected the fields of Inner"),
        ({"inner": [10**5000]}, "record.inner is 'list', expected the fields of Inner"),
        ({"inner": {}}, "record.inner has no count"),
        ({"inner": {"count": 1.0}}, "record.inner.count is '1.0', expected a whole number"),
        ({"inner": {"count": True}}, "record.inner.count is 'True', expected a whole number"),
        ({"inner": {"count": None}}, "record.inner.count is 'None', expected a whole number"),
        ({"inner": {"count": 2**63}}, "record.inner.count is 'a number of 64 bits'"),
        ({"inner": {"count": 10**5000}}, "record.inner.count is 'a number of 16610 bits'"),
        ({"inner": {"count": 1, "share": 10**400}}, "inner.share is 'a number of 1329 bits'"),
        ({"inner": {"count": 1, "share": math.inf}}, "inner.share is 'inf', expected a number"),
        ({"inner": {"count": 1, "share": True}}, "inner.share is 'True', expected a number"),
        ({"inner": {"count": 1, "share": "0.5"}}, "inner.share is '0.5', expected a number"),
        ({"several": {}}, "record.several is '{}', expected a list"),
        ({"several": "abc"}, "record.several is 'abc', expected a list"),
        ({"several": DEEP}, r"record.several\[0\] is .*, expected the fields of Inner"),
        ({"several": [0] * (MOST_ITEMS + 1)}, "record.several is .*, expected a list"),
        ({"several": [{"count": 1}, {}]}, r"record.several\[1\] has no count"),
        ({"pair": [1]}, "record.pair is .*, expected 2 values"),
        ({"pair": [1, 2]}, r"record.pair\[1\] is '2', expected a text"),
        ({"maybe": []}, "record.maybe is .*, expected a number"),
        ({"is_true": 1}, "record.is_true is '1', expected true or false"),
        ({"free": [1]}, "record.free is .*, expected names and values"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else next(iter(value)),
)
def test_values_that_cannot_be_are_refused_by_their_place(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_plain(Outer, PLAIN | change, "record")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["name", "colour"])
def test_a_field_without_a_default_must_be_there(field):
    plain = {name: value for name, value in PLAIN.items() if name != field}
    with pytest.raises(ValueError, match=f"record has no {field}"):
        from_plain(Outer, plain, "record")


@pytest.mark.parametrize("value", [None, 7, "text", [], DEEP, [DEEP] * 3])
def test_what_is_no_record_is_refused(value):
    with pytest.raises(ValueError, match="expected the fields of WarmupFacts"):
        from_plain(WarmupFacts, value)


def test_arrays_of_moments_are_lists_of_numbers():
    plain = through_json(Moments(*(np.arange(2.0) for _ in range(4))))
    assert from_plain(Moments, plain).mean.dtype == np.float64
    for hostile in (None, "12", [[1.0]], ["1"], [2**2000], {"0": 1}):
        with pytest.raises(ValueError, match="mean"):
            from_plain(Moments, plain | {"mean": hostile})


def test_a_row_that_says_nothing_of_ends_is_read():
    plain = through_json(row(reach=0.25))
    assert from_plain(SamplerReport, plain).reach == 0.25
    assert from_plain(SamplerReport, {n: v for n, v in plain.items() if n != "reach"}).reach == 1
    with pytest.raises(ValueError, match="reach is 'far', expected a number"):
        from_plain(SamplerReport, plain | {"reach": "far"})


def test_a_type_without_a_reader_is_a_programming_error():
    with pytest.raises(TypeError, match="no reader"):
        from_plain(complex, 1)
