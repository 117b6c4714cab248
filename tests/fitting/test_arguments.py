"""What `capriole.fit` refuses before it starts, and what a config.json may hold."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.fitting import Settings, settings_from
from capriole.fitting import _api as _fit


def normal(x):
    return -jnp.sum(x**2) / 2


GOOD = Settings(16, 1000, 1.0, 3000, 64, True, "gradients")

BAD = [
    ("num_draws", 7, "num_draws must be a whole number from 8 to 1000000000, got 7"),
    ("num_draws", -5, "from 8 to 1000000000, got -5"),
    ("num_draws", 100.0, "from 8 to 1000000000, got 100.0"),
    ("num_draws", "100", "got '100'"),
    ("train_steps", -1, "train_steps must be a whole number from 0 to 1000000000, got -1"),
    ("train_steps", True, "got True"),
    ("num_chains", 0, "num_chains must be a whole number from 2 to 1000000, got 0"),
    ("num_chains", 1, "num_chains must be at least 2, got 1: R-hat compares chains"),
    ("num_chains", True, "num_chains must be a whole number from 2 to 1000000, got True"),
    (
        "num_warmup_chains",
        15,
        "num_warmup_chains must be a whole number from 16 to 1000000, got 15",
    ),
    ("num_warmup_chains", 32.0, "got 32.0"),
    (
        "spread",
        0.0,
        "spread must be one positive finite number, got 0.0.*give a small one, e.g. 1e-3",
    ),
    ("spread", np.nan, "spread must be one positive finite number, got nan"),
    ("compare", 3, "compare must be True or False, got 3"),
    ("criterion", "time", "criterion must be 'gradients' or 'seconds', got 'time'"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_what_cannot_be_is_refused_before_the_search(monkeypatch, name, value, message):
    monkeypatch.delattr(_fit, "prepare")
    with pytest.raises(ValueError, match=message):
        capriole.fit(normal, np.zeros(2), **{name: value})
    with pytest.raises(ValueError, match=f"the configuration cannot be: .*{message}"):
        settings_from(GOOD._asdict() | {name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3.0, np.zeros(2)), "logdensity must be a function, got 3.0; it comes first, then init"),
        (
            (np.zeros(2), normal),
            r"logdensity must be a function, got array\(\[0., 0.\]\); it comes first",
        ),
        ((normal, None), "pass init, one position"),
        ((normal, [0.0, 0.0]), "failed at.*init, or a part of it, is a list"),
        (
            (normal, np.zeros(2), None),
            "seed must be a whole number below 2.63 or one key.*got None",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_the_search(monkeypatch, arguments, message):
    monkeypatch.delattr(_fit, "search")
    with pytest.raises(ValueError, match=message):
        capriole.fit(*arguments[:2], seed=(*arguments, 0)[2])


def test_numbers_of_numpy_become_those_of_a_config():
    given = Settings(
        *(np.int64(4), np.uint16(8), np.float32(0.5), np.int32(0), np.int8(16)), np.True_, "seconds"
    )
    checked = given.checked()
    assert settings_from(json.loads(json.dumps(checked._asdict()))) == checked
    with pytest.raises(ValueError, match=r"num_chains must be a whole number.*got None"):
        settings_from({"criterion": "seconds", "compare": True})
