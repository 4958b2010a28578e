"""Is what the worlds draw read back exactly? Counts what is not, over many random scenes.

    python experiments/worlds/exactness.py --scenes 10000

Each world at three sizes, clips of five frames. Of every state all fields that are told apart
(kinds, colours, what is visible ...) must be as in the truth wherever that promises them, positions
within half a pixel, and the pose of the camera within 3 degrees and 2 hundredths of its distance.
Areas and masks are not judged here, but in each world's tests. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np
from rich.progress import track

from sora_jax.data.worlds.source import ALL
from sora_jax.data.worlds.world import Setting, World, stream

SIZES = ((48, 48), (64, 112), (128, 72))
FRAMES, FPS = 5, 8.0

# Fields that are measured, not told apart, and what they may be off by; areas are promised in
# each world's own terms.
POSITIONS = ("centre", "position", "bar")
MEASURED = {"area", "mask", "strokes", "gap", "camera", "sure"}


def mistakes(truth: Any, read: Any) -> list[str]:
    """The fields of a state that are not read as they are."""
    sure = getattr(truth, "sure", None)
    found = []
    for field in dataclasses.fields(truth):
        true, seen = getattr(truth, field.name), getattr(read, field.name)
        if field.name in MEASURED:
            continue
        if field.name in POSITIONS:
            off = np.abs(np.asarray(true) - np.asarray(seen))
            lost = np.isnan(true) != np.isnan(seen)
            if sure is not None and sure.shape == off.shape[: sure.ndim]:
                off, lost = off[sure], lost[sure]
            if lost.any() or np.nanmax(off, initial=0.0) > 0.5:
                found.append(field.name)
            continue
        wrong = np.asarray(true) != np.asarray(seen)
        if np.issubdtype(np.asarray(true).dtype, np.integer) and field.name in (
            "pieces",
            "touches",
        ):
            wrong &= np.asarray(true) >= 0
        if sure is not None and wrong.shape == sure.shape:
            wrong &= sure
        if wrong.any():
            found.append(field.name)
    if hasattr(truth, "camera"):
        turned = np.abs((truth.camera.azimuth - read.camera.azimuth + 180) % 360 - 180)
        raised = np.abs(truth.camera.elevation - read.camera.elevation)
        far = np.abs(read.camera.distance / truth.camera.distance - 1)
        if max(turned.max(), raised.max()) > 3 or far.max() > 0.02:
            found.append("camera")
    return found


def count(world: World, scenes: int) -> tuple[int, dict[str, int], float]:
    """How many of so many scenes are read wrong, in which fields, and milliseconds a frame."""
    wrong, fields, seconds = 0, dict[str, int](), 0.0
    for index in track(range(scenes), description=world.name, transient=True):
        height, width = SIZES[index % len(SIZES)]
        setting = Setting.of(height=height, width=width, seconds=FRAMES / FPS)
        scene = world.scene(stream(99, index), setting)
        times = np.arange(FRAMES) / FPS
        frames = world.render(scene, times, height=height, width=width)
        truth = world.truth(scene, times, height=height, width=width)
        began = time.perf_counter()
        read = world.read(frames)
        seconds += time.perf_counter() - began
        found = mistakes(truth, read)
        wrong += bool(found)
        for name in found:
            fields[name] = fields.get(name, 0) + 1
    return wrong, fields, 1000 * seconds / (scenes * FRAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts scenes that are not read back exactly.")
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--worlds", nargs="*", default=[world.name for world in ALL])
    asked = parser.parse_args()
    print("| world | scenes | read wrong | fields | ms a frame |\n|---|---|---|---|---|")
    for world in ALL:
        if world.name in asked.worlds:
            wrong, fields, milliseconds = count(world, asked.scenes)
            cells = world.name, asked.scenes, wrong, fields or "", f"{milliseconds:.1f}"
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
