"""Training on a CPU with and without huge pages for what the process allocates.

    python experiments/benchmarks/pages.py [--rounds 3]

A step of the shipped transformer (16 clips of 17x64x64) allocates and frees some hundred megabytes;
in pages of 4 KiB the kernel spends some of the time on making them. glibc (2.35 and later) asks
for huge pages where GLIBC_TUNABLES=glibc.malloc.hugetlb=1. Processes of either kind take turns; the
ratio of their median steps is printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

SETTING = "glibc.malloc.hugetlb=1"
STEPS, CLIPS = 20, 16


def measure() -> float:
    """The median seconds of a training step in this process."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from sora_jax.arrays import Batch
    from sora_jax.config import read_experiment
    from sora_jax.training.train import Train

    stages = read_experiment("experiments/worlds/small.py")
    train = next(s for s in stages if isinstance(s, Train) and s.name == "transformer")
    objective = train.objective
    latent = np.random.default_rng(0).standard_normal((CLIPS, 5, 8, 8, objective.channels))
    batch = Batch(
        video=None,
        latent=latent.astype(np.float32),
        extent=np.tile(np.array([[17, 64, 64]], np.int32), (CLIPS, 1)),
        text=train.data.tokenizer.tokens(["a red circle moves left over a green field"] * CLIPS),
        weight=np.ones(CLIPS, np.float32),
    )
    params = jax.jit(lambda: objective.init(jax.random.key(0), batch))()
    params = jax.tree.map(
        lambda leaf: leaf.unbox() if hasattr(leaf, "unbox") else leaf,
        params,
        is_leaf=lambda leaf: hasattr(leaf, "unbox"),
    )
    optimizer = train.optimizer.build(STEPS)

    @jax.jit
    def step(params, state, key):
        grads = jax.grad(lambda p: objective.loss(p, key, batch, 0)[0])(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state, times = jax.jit(optimizer.init)(params), []
    for number in range(STEPS):
        start = time.perf_counter()
        params, state = jax.block_until_ready(step(params, state, jax.random.key(number)))
        times.append(time.perf_counter() - start)
    assert jnp.isfinite(jax.tree.leaves(params)[0]).all()
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(measure())
        return
    seconds: dict[str, list[float]] = {"": [], SETTING: []}
    for _ in range(given.rounds):
        for setting, found in seconds.items():
            environment = os.environ | {"GLIBC_TUNABLES": setting}
            ran = subprocess.run(
                [sys.executable, __file__, "--measure"],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            found.append(float(ran.stdout.split()[-1]))
    plain, huge = (statistics.median(found) for found in seconds.values())
    print("| pages | step, s |\n|---|---|")
    print(f"| of 4 KiB | {plain:.3f} |\n| huge | {huge:.3f} |\n\nratio {plain / huge:.2f}")


if __name__ == "__main__":
    main()
