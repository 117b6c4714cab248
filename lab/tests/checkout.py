"""Tests of posteriors need a checkout of posteriordb: skipped where none is found, which the end of
a run says.
"""

import os

import pytest

from capriole_lab.targets import PosteriordbError, find_posteriordb

needs_checkout = pytest.mark.usefixtures("checkout")


def missing():
    """Why there is no checkout; empty if there is one. A named one that is none is an error, no
    reason to skip.
    """
    try:
        find_posteriordb()
    except PosteriordbError as error:
        if os.environ.get("CAPRIOLE_POSTERIORDB"):
            raise
        return str(error)
    return ""
