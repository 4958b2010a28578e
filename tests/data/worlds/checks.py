"""What is checked of every world alike: scenes in all kinds of settings, and reading them back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from sora_jax.data.worlds.world import FPS, Frames, Setting, Times, World, stream

SIZES = ((48, 48), (64, 112), (128, 72))
"""(height, width): the smallest, a wide and a tall one."""


def scenes(
    world: World, count: int, *, frames: int = 17, seed: int = 0
) -> Iterator[tuple[Any, Times, dict[str, int]]]:
    """`count` random scenes, through all SIZES, with the times of their frames."""
    seconds = frames / FPS if frames > 1 else 0.0
    for index in range(count):
        height, width = SIZES[index % len(SIZES)]
        setting = Setting.of(height=height, width=width, seconds=seconds)
        scene = world.scene(stream(seed, index), setting)
        yield scene, np.arange(frames) / FPS, {"height": height, "width": width}


def read_back(world: World, scene: Any, times: Times, size: dict[str, int]) -> tuple[Any, Any]:
    """The true state of a scene, and the one read from its pictures."""
    return world.truth(scene, times, **size), world.read(world.render(scene, times, **size))


def far(one: np.ndarray, other: np.ndarray) -> float:
    """The greatest difference of positions; infinite where only one of them is NaN."""
    if (np.isnan(one) != np.isnan(other)).any():
        return float("inf")
    return float(np.nanmax(np.abs(one - other), initial=0.0))


def blurred(frames: Frames, rng: np.random.Generator) -> Frames:
    """As a model might draw them: blurred by 0.7 pixels, with noise of 6 levels."""
    soft = ndimage.gaussian_filter(frames.astype(np.float32), (0, 0.7, 0.7, 0))
    return np.clip(np.rint(soft + rng.normal(0, 6, soft.shape)), 0, 255).astype(np.uint8)
