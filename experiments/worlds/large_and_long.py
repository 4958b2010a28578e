"""Seams of what does not fit as a whole: pictures coded in tiles, edits of clips in windows.

    python experiments/worlds/large_and_long.py [CHECKPOINT]

Of the model that comes with the package by default. Two tables:

tiles    clips of 192 x 320 pixels through the autoencoder as a whole, and in tiles of 16 latents.
         `own` is how far the reconstruction is from the clip, a mean over pixels, and `tiles` the
         most that any pixel of the tiled one differs from the whole one, in grey levels.
windows  edits (--strength) of clips of 65 frames, longer than any that was trained on, in windows
         one after the other. `windows` is the seam ratio (`evaluation.joins`) where a window
         begins, `within` that at the other places where a latent begins, and `real` that of the
         clips that were edited; each clip's own mean, and over clips the mean of these with its
         95 % interval.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.progress import track

import sora_jax
from sora_jax.arrays import Size
from sora_jax.data.worlds.source import ALL, Worlds
from sora_jax.evaluation import joins
from sora_jax.evaluation.statistics import Mean
from sora_jax.evaluation.suite import cases, resized
from sora_jax.evaluation.suites import SUITES
from sora_jax.generation.pipeline import Pipeline
from sora_jax.generation.pixels import LEAST_TILE
from sora_jax.generation.rollout import plan_windows

LARGE = Size(9, 192, 320)
LONG = Size(65, 64, 64)
EDITED = ("objects", "falling", "painting", "geometry")
"""The suites whose prompts clips are edited to, each by that of the next clip."""


def tiles(pipeline: Pipeline, clips: int) -> list[str]:
    """The rows of the table of tiles."""
    whole, tiled = pipeline.codec(), pipeline.codec(tile=LEAST_TILE)
    rows = []
    for world in track(ALL, "tiles", transient=True):
        opened = Worlds(clips=clips, worlds=(world,), sizes=(LARGE,), seed=1_000_003).open()
        own, apart = [], []
        for index in range(clips):
            clip = opened.read(index, 0, LARGE.frames)
            first = whole.decode(whole.encode(clip))[0].astype(float)
            second = tiled.decode(tiled.encode(clip))[0].astype(float)
            own.append(np.abs(first - clip).mean())
            apart.append(np.abs(second - first).max())
        rows.append(f"| {world.name} | {np.mean(own):.2f} | {max(apart):.0f} |")
    return rows


def windows(pipeline: Pipeline, clips: int, strength: float) -> list[str]:
    """The rows of the table of windows."""
    count = pipeline.vae.latent_size(LONG).frames
    assert pipeline.window is not None
    plan = plan_windows([True] * count, window=pipeline.window)
    begins = [pipeline.vae.pixel_size(Size(part.new, 1, 1)).frames for part in plan[1:]]
    latents = [pipeline.vae.pixel_size(Size(n, 1, 1)).frames for n in range(1, count)]
    rows = []
    for name in EDITED:
        asked = cases(resized(SUITES[name], LONG), clips, seed=11)
        arms: dict[str, list[float]] = {"windows": [], "within": [], "real": []}
        for index, case in enumerate(track(asked, name, transient=True)):
            true = case.frames()
            prompt = asked[(index + 1) % clips].caption
            made = pipeline.edit(true, prompt, strength=strength, seed=index).frames
            arms["windows"].append(seam(made, begins))
            arms["within"].append(seam(made, set(latents) - set(begins)))
            arms["real"].append(seam(true, begins))
        means = [Mean.of(x) for x in arms.values()]
        cells = (f"{x.value:.2f} ({x.low:.2f} to {x.high:.2f})" for x in means)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def seam(frames: np.ndarray, places: Sequence[int] | set[int]) -> float:
    return float(np.mean([joins.seam_ratio(frames, at) for at in places]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--strength", type=float, default=0.6)
    given = parser.parse_args()
    pipeline = sora_jax.load(given.checkpoint)
    # A table is printed at once: bars that are not on a terminal leave empty lines.
    table = ["| world | own | tiles |", "|---|---|---|", *tiles(pipeline, given.clips), ""]
    print("\n".join(table), flush=True)
    rows = windows(pipeline, given.clips, given.strength)
    print("\n".join(["| suite | windows | within | real |", "|---|---|---|---|", *rows]))


if __name__ == "__main__":
    main()
