"""Draws do not change unless they are meant to: small runs give the digits that are stored.

After a change that is meant to change draws: ``python tests/golden/cases.py
tests/golden/golden.json``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES

HERE = Path(__file__).parent
STORED = json.loads((HERE / "golden.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_small_runs_give_the_stored_digits(name, tmp_path):
    """In a process of its own: digits depend on compiler flags, which the other tests change."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    path = tmp_path / "found.json"
    subprocess.run(
        [sys.executable, HERE / "cases.py", path, name], check=True, env=environment, timeout=600
    )
    assert json.loads(path.read_text())[name] == STORED[name]
