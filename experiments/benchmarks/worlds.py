"""How many clips of each world one core draws in a second, with their captions.

    python experiments/benchmarks/worlds.py [--seconds 5] [--size 17 64 64]

Prints the table of experiments/README.md. Processor seconds count, so that what else runs matters
little.
"""

import argparse
import time

import numpy as np

from sora_jax.data.worlds.source import ALL
from sora_jax.data.worlds.world import FPS, Setting, World, stream


def drawn(world: World, size: list[int], seconds: float) -> float:
    """Clips in a second of processor time."""
    frames, height, width = size
    setting = Setting.of(height=height, width=width, seconds=frames / FPS)
    times, count = np.arange(frames) / FPS, 0
    begun = time.process_time()
    while (taken := time.process_time() - begun) < seconds:
        rng = stream(0, count)
        scene = world.scene(rng, setting)
        world.render(scene, times, height=height, width=width)
        world.captions(scene, rng)
        count += 1
    return count / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, nargs=3, default=[17, 64, 64])
    given = parser.parse_args()
    print("| world | clips/s a core |\n|---|---|")
    for world in ALL:
        print(f"| {world.name} | {drawn(world, given.size, given.seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
