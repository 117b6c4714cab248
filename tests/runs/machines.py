"""One process of a run on two devices: train, sample, be stopped, go on. Started by
test_machines.py.

    python machines.py FOLDER [PROCESS_ID PORT [die]]

Without a port it uses the two devices of its own process. ``die``: process 1 kills itself in the
middle of sampling.
"""

import os
import re
import signal
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import conftest  # noqa: F401 (the configuration of the tests)
from capriole.cli import Machines
from capriole.cli._machines import leave
from capriole.kernels import Transition
from capriole.runtime import copied, is_first_process
from capriole.sampling import draw_chains
from capriole.training import init_train_state
from capriole.training._loop import _spread, _train_chunk

if len(sys.argv) > 2:
    Machines(None, f"localhost:{sys.argv[3]}", 2, int(sys.argv[2])).join()

from tiny import (  # it computes: first the processes meet
    KERNEL,
    KEY,
    NUM,
    RECIPE,
    STATE,
    stop_at,
    stream,
    train,
)

folder, devices = Path(sys.argv[1]), jax.devices()
assert len(devices) == 2, devices


def die(event, _):
    if event.step >= NUM // 2 and jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def meetings():
    """For every collective operation of training: in how many loops of the program it is."""
    state = _spread(init_train_state(KERNEL, STATE.position, RECIPE), devices)
    copies = copied((KEY, RECIPE, jnp.asarray(20)), devices)
    lowered = _train_chunk.lower(copies[0], state, *copies[1:], 20, tuple(devices))
    loops, found, here = {}, [], ""
    for line in lowered.compile().compiled.as_text().splitlines():
        if line.endswith("{") and "=" not in line.split("(")[0]:
            here = line.removeprefix("ENTRY ").split()[0]
        elif body := re.search(r" while\(.*body=([^ ,]+)", line):
            loops[body[1]] = here
        elif re.search(
            r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?\(",
            line,
        ):
            found.append(here)

    def depth(name):
        return 1 + depth(loops[name]) if name in loops else 0

    return [depth(name) for name in found]


def main():
    if sys.argv[4:] == ["die"]:
        try:
            stream(folder, devices=devices, progress=die)
        except ValueError as error:
            sys.stderr.write(f"error: {error}\n")
            leave(2)
    with jax.numpy_dtype_promotion("standard"):
        found = meetings()
        assert set(found) == {1}, (
            f"devices should meet once per iteration, not in every leapfrog: {found}"
        )
        train(folder, devices=devices, progress=stop_at(20))
        trained = train(folder, devices=devices)
    assert not stream(folder, devices=devices, progress=stop_at(20)).completed
    streamed = stream(folder, devices=devices)
    in_memory = draw_chains(KEY, KERNEL, STATE, num_draws=NUM, chunk_size=NUM, devices=devices)
    mine = in_memory.record.position
    stored = streamed.store.read_position()
    first = jax.process_index() * len(mine) if len(mine) < len(stored) else 0
    np.testing.assert_array_equal(stored[first : first + len(mine)], mine)
    assert isinstance(trained.transition, Transition)
    if is_first_process():
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(trained.transition.dynamics)]
        parameters, chains = np.concatenate(leaves), trained.chains.position
        np.savez(folder / "made.npz", parameters=parameters, chains=chains, **trained.history)


try:
    main()
except Exception:  # at once: a polite goodbye would wait for the other, and the other for this one
    traceback.print_exc()
    leave(1)
