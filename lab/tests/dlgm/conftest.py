"""What tests of training share."""

import numpy as np
import pytest

from capriole_lab.dlgm import Dataset


@pytest.fixture(scope="module")
def data():
    """Two blurred shapes on 16 pixels."""
    rng = np.random.default_rng(0)
    shape = np.where(np.arange(16) < 8, 0.9, 0.1)[:, None]
    labels = rng.integers(0, 2, 120)
    grey = np.where(labels, shape, 1 - shape).astype(np.float32)
    return Dataset(grey[:, :100], labels[:100], grey[:, 100:], labels[100:], 4)
