"""Speed on one core, as ratios measured side by side in one run.

    python lab/benchmarks/throughput.py [--out results/throughput.json]

1. learned leapfrogs per second (SCG, width 10, M = 10, 2,000 chains) over BlackJAX's HMC leapfrogs
on the same target; 2. network FLOP/s of the learned leapfrog (ICG-50, width 100, 200 chains) over
the machine's 512 x 512 float32 matmul; 3. training iterations per second (SCG, width 10, M = 10, 2
x 200 chains: 200 at the target, 200 of the burn-in term).

Pieces are timed in turn, round after round, and the best round of each counts, so that a busy
machine hurts all alike.
"""

import os

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import equinox as eqx
import jax
import jax.numpy as jnp
from _bench import best_rates, options, store

from capriole.kernels import Transition, hmc, learned_leapfrog
from capriole.sampling import draw_chains
from capriole.training import LogESJD, Recipe, adam, init_train_state, train_step
from capriole_lab.targets import make_target

STEPS, LEAPFROGS, UPDATES = 200, 10, 300


def blackjax_hmc(target, chains):
    import blackjax

    kernel = blackjax.hmc(
        target, step_size=0.1, inverse_mass_matrix=jnp.ones(2), num_integration_steps=LEAPFROGS
    )
    state = jax.vmap(kernel.init)(target.sample(jax.random.key(0), chains).T)

    @jax.jit
    def run(key, state):
        def step(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t), chains)
            state, info = jax.vmap(kernel.step)(keys, state)
            return state, (state.position, info.acceptance_rate)

        return jax.lax.scan(step, state, jnp.arange(STEPS))

    return lambda: jax.block_until_ready(run(jax.random.key(1), state)), chains * STEPS * LEAPFROGS


def chain_kernel(kernel, chains, steps):
    """Only the kernel and the positions it visits, as for BlackJAX."""
    state = kernel.init(kernel.logdensity.sample(jax.random.key(0), chains))

    @jax.jit
    def run(key, state):
        def step(state, t):
            state, info = kernel.move(jax.random.fold_in(key, t), state)
            return state, (state.position, info.acceptance_rate)

        return jax.lax.scan(step, state, jnp.arange(steps))

    return lambda: jax.block_until_ready(
        run(jax.random.key(1), state)
    ), chains * steps * kernel.dynamics.num_gradients


def through_draw_chains(kernel, chains, steps):
    state = kernel.init(kernel.logdensity.sample(jax.random.key(0), chains))
    work = chains * steps * kernel.dynamics.num_gradients
    return lambda: draw_chains(
        jax.random.key(1), kernel, state, num_draws=steps, chunk_size=steps
    ), work


def matmul():
    a = jax.random.normal(jax.random.key(0), (512, 512)) / 512**0.5
    run = jax.jit(lambda a: jax.lax.fori_loop(0, 40, lambda _, b: a @ b, a))
    return lambda: jax.block_until_ready(run(a)), 40 * 2 * 512**3


def network_flops(dynamics):
    """Floating-point operations of the matrix products in one leapfrog step of one chain."""
    networks = (dynamics.momentum_network, dynamics.position_network)
    return sum(2 * 2 * (n.inputs.size + n.hidden.size + n.heads.size) for n in networks)


def training(target):
    kernel = Transition(target, learned_leapfrog(jax.random.key(0), dim=2))
    recipe = Recipe(
        LogESJD(jnp.zeros(2), jnp.full(2, 50.0)),
        adam(1e-3),
        burn_in=lambda key: target.start(key, 200),
        burn_in_weight=0.1,
    )
    state = init_train_state(kernel, target.sample(jax.random.key(2), 200), recipe)
    arrays, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def run(key, arrays):
        def body(i, arrays):
            state = eqx.combine(arrays, static)
            state, _ = train_step(jax.random.fold_in(key, i), state, recipe)
            return eqx.filter(state, eqx.is_array)

        return jax.lax.fori_loop(0, UPDATES, body, arrays)

    return lambda: jax.block_until_ready(run(jax.random.key(3), arrays)), UPDATES


def main():
    args = options(__doc__, rounds=8, chains=2000)
    scg, icg = make_target("scg"), make_target("icg")
    learned = Transition(scg, learned_leapfrog(jax.random.key(0), dim=2))
    wide = Transition(icg, learned_leapfrog(jax.random.key(0), dim=50, width=100, step_size=0.01))
    rates = best_rates(
        {
            "blackjax_hmc_leapfrogs_per_second": blackjax_hmc(scg, args.chains),
            "hmc_leapfrogs_per_second": chain_kernel(
                hmc(scg, step_size=0.1, num_leapfrogs=LEAPFROGS), args.chains, STEPS
            ),
            "learned_leapfrogs_per_second": chain_kernel(learned, args.chains, STEPS),
            "learned_leapfrogs_per_second_recorded": through_draw_chains(
                learned, args.chains, STEPS
            ),
            "icg_learned_leapfrogs_per_second": chain_kernel(wide, 200, 40),
            "matmul_flops": matmul(),
            "training_iterations_per_second": training(scg),
        },
        args.rounds,
    )
    flops = rates["icg_learned_leapfrogs_per_second"] * network_flops(wide.dynamics)
    result = {
        "rates": rates | {"icg_network_flops": flops},
        "ratios": {
            "learned_over_blackjax_hmc": rates["learned_leapfrogs_per_second"]
            / rates["blackjax_hmc_leapfrogs_per_second"],
            "hmc_over_blackjax_hmc": rates["hmc_leapfrogs_per_second"]
            / rates["blackjax_hmc_leapfrogs_per_second"],
            "recorded_over_bare": rates["learned_leapfrogs_per_second_recorded"]
            / rates["learned_leapfrogs_per_second"],
            "icg_network_over_matmul": flops / rates["matmul_flops"],
        },
        "cores_used": 1,
    }
    store(result, args.out)


if __name__ == "__main__":
    main()
