"""Run folders: one run, one process, whole files."""

import json
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from capriole import Progress
from capriole.runs import DrawStore, RunFolder, RunFolderError, clear, read_json, size


def test_one_folder_one_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match="in use by process"):
        RunFolder(tmp_path / "run")
    folder.claim({"seed": 1, "width": 3})
    folder.close()
    with pytest.raises(RunFolderError, match="already holds a run; go on with `capriole resume"):
        RunFolder(tmp_path / "run")
    again = RunFolder.open(tmp_path / "run")
    again.claim({"seed": 1, "width": 3, "newer": True})
    with pytest.raises(RunFolderError, match="seed was 1, now 2"):
        again.claim({"seed": 2, "width": 3})
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.open(tmp_path)


def test_what_is_somebody_elses_stays(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "stages").mkdir()
    theirs = [tmp_path / "checkpoints" / "resnet.safetensors", tmp_path / "stages" / "plan.txt"]
    for path in theirs:
        path.write_text("mine")
    with pytest.raises(
        RunFolderError, match="holds checkpoints, stages, which a run would replace, but no run"
    ):
        RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match="which a run would replace, but no run"):
        RunFolder(tmp_path, new=False)
    (tmp_path / "config.json").write_text("{}")  # they came later
    folder = RunFolder(tmp_path, new=False)
    (tmp_path / "config.json").unlink()
    folder.claim({"seed": 1})
    folder.draws_path("hmc", main=False).mkdir()
    folder.checkpoints.write("train", 1, {"a": np.zeros(1)}, {})
    folder.tidy(keep=())
    assert [path.read_text() for path in theirs] == ["mine", "mine"]
    assert sorted(p.name for p in tmp_path.glob("*/*")) == ["plan.txt", "resnet.safetensors"]
    with pytest.raises(RunFolderError, match="and no store of draws: it is not replaced"):
        DrawStore.create(tmp_path, {"posterior": {"x": np.zeros((1, 1, 1))}}, num_draws=1)
    clear(tmp_path)
    assert not (tmp_path / "config.json").exists()
    RunFolder(tmp_path / "new").close()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    code = f"""
import os, signal
from capriole.runs import RunFolder
folder = RunFolder({str(tmp_path)!r})
folder.write_json("config.json", {{}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    dead = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert dead.returncode == -9, dead.stderr
    assert (tmp_path / "lock").exists()
    RunFolder.open(tmp_path).close()


class Disk(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_a_disk_too_small_is_refused_before_anything_runs(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 10**12, 3 * 10**9))
    folder.check_space(3 * 10**9)
    with pytest.raises(
        RunFolderError, match=r"writes 4 GB of draws.*only 3 GB free.*--num-steps.*--out"
    ):
        folder.check_space(4 * 10**9)


def test_sizes():
    assert [size(n) for n in (12, 1500, 2.5e6, 7e15)] == [
        "12 bytes",
        "1.5 kB",
        "2.5 MB",
        "7e+03 TB",
    ]


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"[" * 10**5, b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_json_that_is_none_is_one_error(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunFolderError, match="cannot read"):
        read_json(tmp_path / "x.json")


def test_the_log_drops_what_a_resumed_stage_does_again(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim({"seed": 1})
    folder.close()
    for step in (10, 20, 30):
        again = RunFolder.open(tmp_path)
        again.metrics.write(Progress("train", step, 40, 1.0, {"loss": float("nan")}))
        again.close()
    log = RunFolder.open(tmp_path).metrics
    log.write(Progress("sample", 5, 40, 1.0, {}))
    log.write(Progress("sample", 6, 40, 1.0, {}))  # within a second: left out
    log.write(Progress("sample", 40, 40, 1.0, {}))
    with log.path.open("a") as file:
        file.write('{"stage": "sam')
    log.rewind("train", 20)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("train", 10),
        ("train", 20),
        ("sample", 5),
        ("sample", 40),
    ]
    assert lines[0]["loss"] is None
