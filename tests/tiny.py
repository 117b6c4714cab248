"""Small kernels and trainings in this process, for the tests of runs."""

import jax
import jax.numpy as jnp
import numpy as np

from capriole.kernels import Transition
from capriole.runs import CheckpointedTrainer, Checkpoints, DrawStore, draw_chains_to_disk
from capriole.sampling import draw_chains
from capriole.training import LogJump, Recipe, adam
from densities import Banana
from kernels import learned

KEY = jax.random.key(5)
KERNEL = Transition(Banana(), learned(2, 0.25, heads=0.7)(2, jnp.dtype("float64")))
STATE = KERNEL.init(jnp.asarray(np.random.default_rng(0).normal(size=(2, 8))))
NUM, CHUNK = 60, 10
RECIPE = Recipe(LogJump(), adam(1e-3))


def checkpoints(folder, identity="this run"):
    return Checkpoints(folder / "checkpoints", identity)


def stream(folder, *, num_draws=NUM, key=KEY, state=STATE, kernel=KERNEL, **options):
    return draw_chains_to_disk(
        key,
        kernel,
        state,
        folder / "draws.zarr",
        checkpoints(folder),
        num_draws=num_draws,
        chunk_size=CHUNK,
        **({"seconds": 0.0} | options),
    )


def whole(num_draws=NUM, thin=1):
    return draw_chains(KEY, KERNEL, STATE, num_draws=num_draws, chunk_size=CHUNK, thin=thin)


def assert_holds(folder, draws):
    """The store holds exactly these draws, every field."""
    store = DrawStore.open(folder / "draws.zarr")
    assert store.committed == draws.record.lp.shape[1]
    for name, expected in draws.record._asdict().items():
        found = store.read_position() if name == "position" else store.read(f"sample_stats/{name}")
        np.testing.assert_array_equal(found, expected, err_msg=name)


def train(
    folder, *, num_steps=60, key=KEY, progress=None, seconds=0.0, stage="train", devices=None
):
    trainer = CheckpointedTrainer(
        checkpoints(folder), seconds=seconds, chunk_size=CHUNK, devices=devices
    )
    return trainer(
        stage, key, KERNEL, STATE.position, RECIPE, num_steps=num_steps, progress=progress
    )


def stop_at(step):
    """A progress callback that stops the loop once ``step`` is reached."""

    def progress(event, *_):
        if event.step >= step:
            raise KeyboardInterrupt

    return progress
