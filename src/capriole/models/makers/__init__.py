"""Makers of models, one file for each way in.

Read the files in this order: `_supports` and `_matrix_supports` (changes of variables),
`_constrained` (a log density of bounded parameters).
"""

from ._constrained import constrained
from ._supports import Support, circular, interval

__all__ = ["Support", "circular", "constrained", "interval"]
