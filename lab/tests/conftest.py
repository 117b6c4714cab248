"""See `configure`, beside the library's tests."""

import pytest

from checkout import missing
from configure import few_compiled_programs, standard_promotion  # noqa: F401


@pytest.fixture(scope="session")
def checkout():
    """What `checkout.needs_checkout` marks."""
    if reason := missing():
        pytest.skip(reason)
