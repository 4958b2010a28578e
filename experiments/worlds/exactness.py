"""Is what the worlds draw read back exactly? Counts what is not, over many random scenes.

    python experiments/worlds/exactness.py --scenes 10000

Each world at three sizes, scenes of 33 frames at 8 a second, of which seven are drawn and read. Of
every state all fields that are told apart (kinds, colours, what is visible ...) must be as in the
truth wherever that promises them, positions within half a pixel, strokes and masks overlap by an
IoU of 0.9, areas be right to what AREAS says, and the camera within 3 degrees and 2 hundredths of
its distance wherever four markers are surely visible. Prints a table in Markdown: how many scenes
are read wrong, in how many of them something that is told apart changes, and what part of all
entries the truth promises.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from rich.progress import track

from sora_jax.data.worlds.eater_scene import FOOD
from sora_jax.data.worlds.occluder import HIDDEN
from sora_jax.data.worlds.source import ALL
from sora_jax.data.worlds.world import FPS, Setting, World, stream

SIZES = ((48, 48), (64, 112), (128, 72))
FRAMES = 33
READ = (0, 5, 11, 16, 21, 27, 32)
"""The frames that are drawn and read."""

PIXELS = {"centre": 0.5, "position": 0.5, "bar": 0.5, "gap": 1.7}
"""What fields that are measured may be off by."""

AREAS = {
    "sprites": (0.06, 1.0),
    "balls": (0.06, 0.0),
    "painter": (0.08, 8.0),
    "shatter": (0.06, 0.0),
}
"""What areas may be off by: a part of the true one, and pixels. (A food is told of by `Eaten`.)"""

OVERLAP, DAB = 0.9, 0.02
"""The least IoU of strokes, where these are so many squared shorter sides, and of masks."""


def promised(truth: Any, name: str) -> np.ndarray:
    """Which entries of a field are promised to be read as they are."""
    true = np.asarray(getattr(truth, name))
    sure = getattr(truth, "sure", None)
    if name in ("pieces", "touches"):
        return true >= 0
    if name in ("rubber", "area", "centre") and hasattr(truth, "pieces"):
        return truth.pieces >= 0
    # Of a food and a mouth it is not sure whether they touch, and so what is hidden; where they are
    # is promised always. A state of markers promises each of them, or none of what there is of it,
    # and all of what there is of a colour likewise.
    touching = not hasattr(truth, "bites") or name in ("contact", "bites")
    if sure is not None and true.shape[: sure.ndim] == sure.shape and touching:
        return sure
    return np.ones(true.shape[:1] if name in PIXELS else true.shape, bool)


def mistakes(world: World, truth: Any, read: Any, *, side: int) -> list[str]:
    """The fields of a state that are not read as they are."""
    found = []
    for name in _fields(truth):
        true, seen = np.asarray(getattr(truth, name)), np.asarray(getattr(read, name))
        sure = promised(truth, name)
        if name in PIXELS:
            both_lost = np.isfinite(true) != np.isfinite(seen)
            with np.errstate(invalid="ignore"):
                wrong = (both_lost | (np.abs(true - seen) > PIXELS[name]))[sure]
        elif name in ("strokes", "mask"):
            wrong = _overlap(true, seen, least=DAB * side**2 if name == "strokes" else 0) < OVERLAP
        elif name == "area":
            wrong = (np.abs(true - seen) > _area_off(world, truth, side))[sure]
        else:
            wrong = (true != seen)[sure] if true.shape == seen.shape else np.array(True)
        if wrong.any():
            found.append(name)
    if hasattr(truth, "camera") and _camera_wrong(truth, read):
        found.append("camera")
    return found


def _fields(truth: Any) -> list[str]:
    """Those that are judged one by one; areas are of painted states as well, which derive them."""
    names = [field.name for field in dataclasses.fields(truth)]
    names = [name for name in names if name not in ("camera", "sure")]
    return names + ["area"] * ("area" not in names and hasattr(truth, "area"))


def _overlap(one: np.ndarray, other: np.ndarray, *, least: float) -> np.ndarray:
    """The IoU of masks [..., height, width]; 1 where there is no more than `least` of both."""
    both, either = (one & other).sum((-2, -1)), (one | other).sum((-2, -1))
    return np.where(either > least, both / np.maximum(either, 1), 1.0)


def _area_off(world: World, truth: Any, side: int) -> np.ndarray:
    """By how many pixels areas may be wrong."""
    if world.name == "eater":
        return np.pi * (FOOD * side) ** 2 * np.where(truth.bites >= 0, 0.04, 0.06)
    part, pixels = AREAS[world.name]
    return part * truth.area + pixels


def _camera_wrong(truth: Any, read: Any) -> bool:
    """Whether a pose is off, or none is read although four markers are surely visible."""
    needed = (truth.visible & truth.sure).sum(1) >= 4
    turned = np.abs((truth.camera.azimuth - read.camera.azimuth + 180) % 360 - 180)
    raised = np.abs(truth.camera.elevation - read.camera.elevation)
    far = np.abs(read.camera.distance / truth.camera.distance - 1)
    lost = ~np.isfinite(turned + raised + far)
    off = (turned > 3) | (raised > 3) | (far > 0.02)
    return bool((off | (lost & needed)).any())


def changes(truth: Any) -> bool:
    """Whether anything that is told apart changes from frame to frame."""
    arrays = (np.asarray(getattr(truth, name)) for name in _fields(truth) if name != "area")
    told = (array for array in arrays if array.ndim and array.dtype.kind in "bi")
    return any((array != array[:1]).any() for array in told if array.ndim < 4)


def promises(truth: Any) -> tuple[int, int]:
    """How many entries are promised, of those that the truth leaves open somewhere, and of all."""
    if hasattr(truth, "pieces"):
        entries = np.concatenate([truth.pieces >= 0, truth.touches >= 0])
    elif not hasattr(truth, "sure"):
        return 1, 1
    elif hasattr(truth, "view"):
        # Of colours that a scene does not have nothing is hard to tell.
        entries = truth.sure[:, (truth.view != HIDDEN).any(0)]
    else:
        entries = truth.sure
    return int(entries.sum()), entries.size


def count(world: World, scenes: int) -> list[str]:
    """The cells of a world's row."""
    wrong, changed, sure, entries, seconds = 0, 0, 0, 0, 0.0
    fields: Counter[str] = Counter()
    for index in track(
        range(scenes), description=world.name, transient=True, disable=not sys.stdout.isatty()
    ):
        height, width = SIZES[index % len(SIZES)]
        setting = Setting.of(height=height, width=width, seconds=FRAMES / FPS)
        scene, times = world.scene(stream(99, index), setting), np.array(READ) / FPS
        frames = world.render(scene, times, height=height, width=width)
        truth = world.truth(scene, times, height=height, width=width)
        began = time.perf_counter()
        read = world.read(frames)
        seconds += time.perf_counter() - began
        found = mistakes(world, truth, read, side=min(height, width))
        fields.update(found)
        wrong += bool(found)
        changed += changes(truth)
        sure, entries = sure + promises(truth)[0], entries + promises(truth)[1]
    return [
        world.name,
        str(scenes),
        str(wrong),
        ", ".join(f"{name} {times}" for name, times in fields.items()),
        f"{changed / scenes:.1%}",
        f"{sure / max(1, entries):.1%}",
        f"{1000 * seconds / (scenes * len(READ)):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts scenes that are not read back exactly.")
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--worlds", nargs="*", default=[world.name for world in ALL])
    asked = parser.parse_args()
    print("| world | scenes | read wrong | fields | changing | promised | ms a frame |")
    print("|---" * 7 + "|")
    for world in ALL:
        if world.name in asked.worlds:
            print(f"| {' | '.join(count(world, asked.scenes))} |", flush=True)


if __name__ == "__main__":
    main()
