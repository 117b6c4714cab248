"""Makers of models, one file for each way in.

Read the files in this order: `_supports` and `_matrix_supports` (changes of variables),
`_constrained` (a log density of bounded parameters), `_numpyro` (a NumPyro model),
`_numpyro_program` (its functions), `_numpyro_sites` (what its sites say), `_host_calls` (Python
called from compiled programs), `_pymc` and `_pymc_graphs` (a PyMC model), `_stan` and `_stan_host`
(a Stan model).
"""

from ._constrained import constrained
from ._numpyro import from_numpyro
from ._pymc import from_pymc
from ._stan import from_stan
from ._supports import Support, circular, interval

__all__ = [
    "Support",
    "circular",
    "constrained",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "interval",
]
