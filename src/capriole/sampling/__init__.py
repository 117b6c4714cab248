"""Draws of a frozen kernel, and NUTS to compare with.

Read in this order:

- `_initial`: random keys, and starting positions;
- `_hmc_warmup`: plain HMC that finds the typical set, a step size and scales;
- `_draw`: the loop over compiled chunks, and what it keeps of a step;
- `_groups`: what a model makes of draws: its own variables, likelihoods, new data;
- `_tree`: draws as an ArviZ tree;
- `_api`: ``capriole.sample``, which puts these together;
- `_counted`: what any external sampler needs to report its costs;
- `_nuts`: BlackJAX's NUTS.
"""

from ._api import sample
from ._counted import (
    CountedDraws,
    CountedRecord,
    chain_keys,
    check_batch_starts,
    collect,
    hmc_record,
    leapfrogs_only,
    over_chains,
    plain,
    scan,
    timed,
    total,
    worth_vectorising,
)
from ._draw import Draws, Record, draw_chains, draw_chunks, means, record_of, tally_arguments
from ._groups import UNCONSTRAINED, check_groups, complete, over_draws, with_names
from ._hmc_warmup import HMCWarmup, run_hmc_warmup
from ._initial import as_key, prepare
from ._nuts import nuts, nuts_dense, run_nuts
from ._tree import to_datatree, to_tree, user_groups

__all__ = [
    "UNCONSTRAINED",
    "CountedDraws",
    "CountedRecord",
    "Draws",
    "HMCWarmup",
    "Record",
    "as_key",
    "chain_keys",
    "check_batch_starts",
    "check_groups",
    "collect",
    "complete",
    "draw_chains",
    "draw_chunks",
    "hmc_record",
    "leapfrogs_only",
    "means",
    "nuts",
    "nuts_dense",
    "over_chains",
    "over_draws",
    "plain",
    "prepare",
    "record_of",
    "run_hmc_warmup",
    "run_nuts",
    "sample",
    "scan",
    "tally_arguments",
    "timed",
    "to_datatree",
    "to_tree",
    "total",
    "user_groups",
    "with_names",
    "worth_vectorising",
]
