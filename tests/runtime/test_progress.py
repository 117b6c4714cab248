"""What is shown of a run: stages, the time left, and who sees it."""

import io
import sys

import pytest
from rich.console import Console

from capriole.runtime import LiveProgress, Progress, begin_stage, duration, pulse, shown, telling
from capriole.runtime import _display as display


class Clock:
    """Seconds as the test says."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def left_of(clock, events):
    """What `TimeLeft` says of the last of ``(seconds, step, num_steps)``."""
    left = display.TimeLeft()
    for seconds, step, num_steps in events:
        clock.now = 100.0 + seconds
        last = left(Progress("sample", step, num_steps, seconds, {}))
    return last


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(0, 0, 0), (60, 1, 101)], None),
        ([(0, 0, 0), (60, 1, 101), (61, 11, 101)], 9.0),
        ([(5, 10, 100), (6, 20, 100), (7, 10, 50), (9, 20, 50)], 6.0),
        ([(5, 10, 100), (6, 100, 100)], 0.0),
        ([(5, 1, 0), (6, 2, 0)], None),
    ],
    ids=["compiling", "without compiling", "a second loop", "done", "unknown"],
)
def test_the_time_left_is_that_of_the_steps_since_the_first(clock, events, expected):
    assert left_of(clock, events) == expected


def test_a_loop_is_told_of_in_its_stage_a_few_times_a_second(clock):
    events = []
    with telling(events.append):
        begin_stage("long runs", 12.0)
        for step in range(1, 101):
            clock.now += 0.01
            pulse(step, 100)
    assert events[0] == Progress("long runs", 0, 0, 0.0, {}, expected=12.0)
    assert [event.phase for event in events] == ["long runs"] * len(events)
    assert 3 <= len(events) <= 5
    pulse(1, 2)
    assert len(events) <= 5, "outside nobody is told"


def bars(monkeypatch, *events):
    """The text of a terminal after some events, and the bars."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140)
    monkeypatch.setattr(display, "stderr", lambda *, quiet=False: console)
    live = LiveProgress()
    with live:
        for event in events:
            live(event)
        tasks = list(live.bars.tasks)
        finished = [task.finished for task in tasks]
    return out.getvalue(), tasks, finished


def test_a_bar_is_finished_once_the_next_stage_begins(monkeypatch):
    text, tasks, finished = bars(
        monkeypatch,
        Progress("warmup", 0, 0, 0.0, {}),
        Progress("warmup", 200, 320, 1.0, {}),
        Progress("warmup", 520, 520, 2.0, {"rhat": 1.0}),
        Progress("rotations", 0, 0, 0.0, {}, expected=30.0),
        Progress("rotations", 0, 0, 0.0, {}, note="a gradient takes 50 ms"),
    )
    assert [task.description for task in tasks] == ["warmup", "rotations"]
    assert finished == [True, False]
    assert "a gradient takes 50 ms" in text
    assert "may take 30 s" in text


def test_lines_elsewhere_say_stages_and_steps(monkeypatch, clock):
    out = io.StringIO()
    monkeypatch.setattr(display, "stderr", lambda *, quiet=False: Console(file=out, width=140))
    with LiveProgress() as live:
        live(Progress("nuts", 0, 0, 0.0, {}, expected=90.0))
        for step in (100, 200, 1300):
            clock.now += 6
            live(Progress("nuts", step, 1300, 0.0, {}))
    text = out.getvalue()
    assert "nuts may take 90 s" in text
    assert "nuts: 200/1300    66 s left" in text


@pytest.mark.parametrize(
    ("progress", "is_watched", "shows"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True)],
)
def test_a_bar_is_shown_where_somebody_sees_it(monkeypatch, progress, is_watched, shows):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_watched, raising=False)
    with shown(progress) as callback:
        assert isinstance(callback, LiveProgress) == shows
        assert shows or callback is None


def test_a_progress_that_is_none_is_refused():
    with pytest.raises(ValueError, match="progress must be a function, True, False or None, got 3"):
        with shown(3):
            pass


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0501, "0.05 s"), (12.3, "12 s"), (150, "2 min"), (9000, "2.5 h"), (1e6, "278 h")],
)
def test_durations_are_in_words(seconds, words):
    assert duration(seconds) == words
