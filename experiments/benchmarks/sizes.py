"""The largest images on this machine: is the memory that is told before the work what it takes?

    JAX_PLATFORMS=cpu python experiments/benchmarks/sizes.py

Each size in a process of its own, through `Pipeline.image` as a user would: the smallest preset of
the transformer (untrained, which changes no byte), the small autoencoder, guidance, two steps of
the sampler. Prints the table of experiments/README.md.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from sora_jax.arrays import Size

SIZES = (Size(1, 1080, 1920), Size(1, 1920, 1080), Size(1, 2048, 2048))
GIB = 2**30


def one(size: Size) -> None:
    """Prints the bytes that are told and taken, and the seconds."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sora_jax.data.captions import Bytes
    from sora_jax.generation.loading import smallest_batch
    from sora_jax.generation.memory import needed
    from sora_jax.generation.pipeline import Pipeline
    from sora_jax.models import block_vae, dit
    from sora_jax.models.text import WordEncoder
    from sora_jax.objectives.denoising import Denoising

    vae, tokenizer = block_vae.PRESETS["small"](latent_channels=16), Bytes(length=64)
    denoiser = Denoising(
        model=dit.PRESETS["1M"](latent_channels=16, text_width=128),
        text=WordEncoder(width=128, depth=2, heads=4, length=64),
    )
    batch = smallest_batch(vae, tokenizer)
    key = jax.random.key(0)
    init = jax.jit(lambda: vae.init(key, jnp.zeros((1, 5, 16, 16, 3))))
    pipeline = Pipeline(
        denoiser=denoiser,
        params=jax.tree.map(np.asarray, _plain(jax.jit(lambda: denoiser.init(key, batch))())),
        vae=vae,
        vae_params=jax.tree.map(np.asarray, _plain(init()["params"])),
        tokenizer=tokenizer,
        fps=8.0,
        source="untrained",
    )
    told = needed(pipeline, size, estimates=2)
    began = time.monotonic()
    made = pipeline.image("a red circle", height=size.height, width=size.width, steps=2)
    seconds = time.monotonic() - began
    assert made.frames.shape == (*size, 3)
    taken = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("RESULT", told.bytes, taken, told.tile or 0, seconds)


def _plain(tree: object) -> object:
    import flax.linen as nn

    return nn.unbox(tree)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(Size(*map(int, given.one.split("x"))))
        return
    print("| height x width | told, GiB | taken, GiB | taken / told | tiles of | seconds |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)],
            capture_output=True,
            text=True,
            check=True,
        )
        line = next(row for row in done.stdout.splitlines() if row.startswith("RESULT"))
        told, taken, tile, seconds = map(float, line.split()[1:])
        tiles = f"{tile:.0f} latents" if tile else "none"
        print(
            f"| {size.height} x {size.width} | {told / GIB:.2f} | {taken / GIB:.2f} "
            f"| {taken / told:.2f} | {tiles} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
