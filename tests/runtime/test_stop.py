"""Stopping: signals and budgets are heard between chunks, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from capriole.runtime import EXIT_OUT_OF_TIME, Pace, Stop, check_stop
from tiny import assert_holds, stream, whole


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_chunk(tmp_path, number, status):
    before = signal.getsignal(number)
    with Stop() as stop:

        def progress(event, _):
            if event.step == 20:
                os.kill(os.getpid(), number)

        streamed = stream(tmp_path, seconds=1e9, progress=stop.after(progress))
        assert not streamed.completed
        assert streamed.store.committed == 20
        assert stop.exit_code == status
        assert signal.Signals(number).name in stop.reason
    assert signal.getsignal(number) is before
    stream(tmp_path)
    assert_holds(tmp_path, whole())


def test_a_second_signal_is_immediate():
    code = """
import os, signal, time
from capriole.runtime import Stop
with Stop():
    os.kill(os.getpid(), signal.SIGTERM)
    print("going on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("going on\n", -signal.SIGTERM), done.stderr


def test_a_budget_ends_the_run(tmp_path):
    with Stop(time_budget=1e-6) as stop:
        streamed = stream(tmp_path, progress=stop.after(lambda *_: None))
    assert not streamed.completed
    assert streamed.store.committed == 1, "a run that goes on makes one step at least"
    assert stop.exit_code == EXIT_OUT_OF_TIME == 75
    assert "1e-06 s" in stop.reason


def test_other_threads_get_no_handlers():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stop() as stop:
            seen.append(signal.getsignal(signal.SIGTERM))
            stop.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_a_budget_is_positive(budget):
    with pytest.raises(ValueError, match="positive number of seconds"):
        Stop(time_budget=budget)


def test_a_signal_is_acknowledged_while_compiled_code_runs():
    """Python's own handler waits for it; here a call into C that no signal ends."""
    code = """
import os, signal, threading, time
import jax, jax.numpy as jnp
from capriole.runtime import Stop
work = jax.jit(lambda x: jax.lax.fori_loop(0, 2_000_000, lambda i, x: jnp.sin(x), x))
work = work.lower(jnp.ones(1000)).compile()
begun = time.monotonic()
def heard(number, count):
    print("heard", number, time.monotonic() - begun < 2, flush=True)
    os._exit(7)
with Stop(heard=heard):
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    jax.block_until_ready(work(jnp.ones(1000)))
    print("it ended before", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.returncode) == ("heard 2 True\n", 7), done.stderr


def test_a_stop_around_is_heard_inside_but_not_where_one_is_alone():
    with Stop() as outer:
        outer.request()
        with Stop(signals=()), pytest.raises(KeyboardInterrupt):
            check_stop()
        with Stop(signals=(), alone=True):
            check_stop()
    check_stop()


def test_pieces_are_of_half_a_second():
    pace, sizes = Pace(), []
    for _ in range(6):
        sizes.append(pace.next(10_000))
        pace.took(sizes[-1], 5.0 if len(sizes) == 1 else 0.001 * sizes[-1])
    assert sizes == [1, 1, 8, 64, 499, 499] or sizes == [1, 1, 8, 64, 500, 500]
    pace.took(500, 50.0)
    assert pace.next(10_000) == 5, "a loop that has become slow gets shorter pieces"
