"""The largest images, and all tasks: is the memory that is told before the work what it takes?

    JAX_PLATFORMS=cpu python experiments/benchmarks/sizes.py

Each row in processes of its own. Images go through `Pipeline.image` as a user would make them: the
smallest preset of the transformer (untrained, which changes no byte), the small autoencoder,
guidance, two steps of the sampler. Tasks are those of the shipped model at the sizes that they have
by default, the first clip of a process and another of the same kind. Prints the tables of
experiments/README.md.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sora_jax.arrays import Size

SIZES = (Size(1, 1080, 1920), Size(1, 1920, 1080), Size(1, 2048, 2048))
PROMPT = "a red circle moves left"
LONG = {"frames": 480, "steps": 2}
TASKS: dict[str, Callable[[Any, Any, str], Any]] = {
    "image": lambda pipeline, clip, folder: pipeline.image(PROMPT),
    "generate": lambda pipeline, clip, folder: pipeline.generate(PROMPT),
    "generate, 480 frames to .mp4": lambda pipeline, clip, folder: pipeline.generate_to(
        f"{folder}/clip.mp4", PROMPT, **LONG
    ),
    "animate": lambda pipeline, clip, folder: pipeline.animate(clip[0], PROMPT),
    "extend forward": lambda pipeline, clip, folder: pipeline.extend(clip, PROMPT),
    "extend backward": lambda pipeline, clip, folder: pipeline.extend(
        clip, PROMPT, direction="backward"
    ),
    "loop of a clip": lambda pipeline, clip, folder: pipeline.loop(clip, prompt=PROMPT),
    "loop of a prompt": lambda pipeline, clip, folder: pipeline.loop(prompt=PROMPT),
    "edit": lambda pipeline, clip, folder: pipeline.edit(clip, PROMPT),
    "connect": lambda pipeline, clip, folder: pipeline.connect(clip, clip, prompt=PROMPT),
    "connect by 480 frames": lambda pipeline, clip, folder: pipeline.connect(
        clip, clip, prompt=PROMPT, **LONG
    ),
    "retake": lambda pipeline, clip, folder: pipeline.retake(clip, PROMPT, span=(5, 9)),
    "refine to 128 x 128": lambda pipeline, clip, folder: pipeline.refine(
        clip, PROMPT, height=128, width=128
    ),
}
GIB, MIB = 2**30, 2**20


def peak() -> int:
    """The most bytes that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def task(name: str) -> None:
    """Prints the bytes that are told and taken, by the first clip and by the second."""
    import numpy as np

    import sora_jax
    from sora_jax.generation import model

    told, needed = [], model.needed

    def noted(*arguments: Any, **named: Any) -> Any:
        need = needed(*arguments, **named)
        told.append(need.bytes)
        return need

    model.needed = noted
    pipeline = sora_jax.load()
    clip = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            TASKS[name](pipeline, clip, folder)
            found += [told[-1], peak()]
    print("RESULT", *found)


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
    print("RESULT", told.bytes, peak(), told.tile or 0, seconds)


def _plain(tree: object) -> object:
    import flax.linen as nn

    return nn.unbox(tree)


def measured(what: str) -> list[float]:
    """What a process of its own prints of a size or a task."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", what], capture_output=True, text=True, check=True
    )
    line = next(row for row in done.stdout.splitlines() if row.startswith("RESULT"))
    return [float(number) for number in line.split()[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    only = parser.parse_args().one
    if only:
        task(only) if only in TASKS else one(Size(*map(int, only.split("x"))))
        return
    print("| height x width | told, GiB | taken, GiB | taken / told | tiles of | seconds |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        told, taken, tile, seconds = measured(str(size))
        tiles = f"{tile:.0f} latents" if tile else "none"
        print(
            f"| {size.height} x {size.width} | {told / GIB:.2f} | {taken / GIB:.2f} "
            f"| {taken / told:.2f} | {tiles} | {seconds:.0f} |",
            flush=True,
        )
    print("\n| task | told, MiB | taken, MiB | taken / told | of a second clip |")
    print("|---|---|---|---|---|")
    for name in TASKS:
        told, taken, again, all_taken = measured(name)
        print(
            f"| {name} | {told / MIB:.0f} | {taken / MIB:.0f} | {taken / told:.2f} "
            f"| {all_taken / again:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
