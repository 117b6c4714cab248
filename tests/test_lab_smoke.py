"""The laboratory in a few seconds: it is there, lists its targets, and they are log densities."""

import jax
import numpy as np

from capriole_lab.targets import MODELS, TARGETS, make_target


def test_the_laboratory_has_its_targets():
    from capriole_lab.cli import main

    assert callable(main)
    assert {"scg", "mog", "funnel"} <= TARGETS.keys()
    assert "batting" in MODELS


def test_two_log_densities_are_finite_at_their_starts():
    for name in ("scg", "batting"):
        target = make_target(name)
        assert np.isfinite(target(target.start(jax.random.key(0), 3))).all()
