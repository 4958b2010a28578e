"""What a procedural world is: scenes with exact state, their pictures, and the way back.

A world is a frozen value. Of random numbers and a `Setting` it makes a scene, a plain value that
holds all that happens; the scene is drawn at any moments and any size, described in words, and its
true state told. `read` is the way back, from pictures alone to the same state: exact on what the
world draws itself, tolerant of the blur and the mistakes of generated pictures. So whatever a world
promises, such as that nothing appears from nowhere, can be measured on a model's clips.

Lengths in scenes are in units of the shorter side of the picture, so that a scene is the same at
every size; seconds are seconds. Positions are (down, across) from the top left corner. States are
in pixels, an array of [frames, ...] for each quantity.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from sora_jax.data.datasets import Caption

Times = Float[np.ndarray, " frames"]
"""Moments of a scene in seconds, from 0 on."""

Frames = UInt8[np.ndarray, "frames height width 3"]

FPS = 8.0
"""Frames per second for which scenes are made: what they promise of frames, such as that a shape is
hidden in one at least, is of clips at this rate. They can be drawn at any."""

LEAST_SIDE = 16
"""Pixels of the shorter side from which on all worlds can be drawn and read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The picture and the time that a scene is made for.

    height, width  of the picture, in units of the shorter side: one of them is 1.
    seconds        how long it lasts; 0 for a still picture.
    """

    height: float
    width: float
    seconds: float

    @classmethod
    def of(cls, *, height: int, width: int, seconds: float) -> Setting:
        """Of a picture of so many pixels."""
        side = min(height, width)
        return cls(height=height / side, width=width / side, seconds=seconds)


@runtime_checkable
class World(Protocol):
    """See the module. Scenes and states are dataclasses of each world's own file."""

    @property
    def name(self) -> str:
        """One word, which the captions of no other world contain."""
        ...

    def scene(self, rng: np.random.Generator, setting: Setting) -> Any:
        """A random scene."""
        ...

    def captions(self, scene: Any, rng: np.random.Generator) -> tuple[Caption, ...]:
        """A short and a descriptive caption, each in one of several phrasings; both are true."""
        ...

    def render(self, scene: Any, times: Times, *, height: int, width: int) -> Frames:
        """The pictures at `times`."""
        ...

    def truth(self, scene: Any, times: Times, *, height: int, width: int) -> Any:
        """The state that is to be seen in those pictures."""
        ...

    def read(self, frames: Frames) -> Any:
        """The state that is seen in pictures."""
        ...


def check_most(world: str, most: int, *, least: int = 1, greatest: int | None = None) -> None:
    """Raises ValueError for a world that cannot have up to so many of what it has."""
    if most < least or (greatest is not None and most > greatest):
        bound = f"{least} or more" if greatest is None else f"{least} to {greatest}"
        raise ValueError(f"{world}: most is {most}; give {bound}")


def stream(*key: int) -> np.random.Generator:
    """The random numbers of a key of non-negative integers, the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
