"""What needs a checkout of posteriordb is skipped where none is found; where one is named it must be there."""

import os

import pytest

from capriole.targets import PosteriordbError, find_posteriordb
from capriole.targets._posteriordb import VARIABLE


def missing():
    """Why there is no checkout; empty if there is one. A named one that is none is an error, no reason to skip."""
    try:
        find_posteriordb()
    except PosteriordbError as error:
        if os.environ.get(VARIABLE):
            raise
        return str(error)
    return ""


needs_checkout = pytest.mark.skipif(bool(missing()), reason=missing())
