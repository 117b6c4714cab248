"""Stopping: signals and budgets are heard between chunks, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from capriole.runs import EXIT_OUT_OF_TIME, Stop
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
from capriole.runs import Stop
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
    assert streamed.store.committed == 10
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
