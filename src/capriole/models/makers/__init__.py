"""Makers of models, one file for each way in.

Read the files in this order: `_supports` and `_matrix_supports` (changes of variables),
`_constrained` (a log density of bounded parameters), `_numpyro` (a NumPyro model),
`_numpyro_program` (its functions), `_numpyro_sites` (what its sites say) and `_host_calls` (Python
called from compiled programs).
"""

from ._constrained import constrained
from ._numpyro import from_numpyro
from ._supports import Support, circular, interval

__all__ = ["Support", "circular", "constrained", "from_numpyro", "interval"]
