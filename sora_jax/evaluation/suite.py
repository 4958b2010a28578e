"""What a suite is: clips that are asked for by their captions, and how each is scored."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from sora_jax.arrays import Size
from sora_jax.data.worlds.world import FPS, LEAST_SIDE, Frames, Setting, World, stream
from sora_jax.evaluation.broken import Floor

SIZE = Size(17, 64, 64)
"""Of their clips, if nothing else is said."""

# What random numbers are for; part of their key, beside those of `data.worlds.source`.
_ASKING = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One measure of a suite.

    better   whether high or low values are.
    floor    the kind of broken clip that it must tell from a true one.
    about    what it is, in words, with its unit.
    yes_no   whether each clip has 1 or 0.
    """

    name: str
    better: Literal["high", "low"]
    floor: Floor
    about: str
    yes_no: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A clip that is asked for: a scene of a world, and the caption that describes it."""

    world: World
    scene: Any
    caption: str
    size: Size

    def frames(self) -> Frames:
        """The clip as its world draws it."""
        frames, height, width = self.size
        times = np.arange(frames) / FPS
        return self.world.render(self.scene, times, height=height, width=width)


@runtime_checkable
class Suite(Protocol):
    """What is asked of a model, and how what it makes is scored."""

    @property
    def name(self) -> str: ...

    @property
    def world(self) -> World: ...

    @property
    def size(self) -> Size:
        """Of the clips that are asked for: a field, which `resized` changes."""
        ...

    @property
    def least(self) -> int:
        """The fewest frames of which all its metrics can tell."""
        ...

    @property
    def truths(self) -> int:
        """How many true clips ceiling and floors need for each that a model is asked for."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def caption(self, scene: Any, rng: np.random.Generator) -> str:
        """What a model is told of a scene."""
        ...

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        """The value of each metric for one clip; NaN where it does not apply."""
        ...


class Described:
    """A suite that tells a model all that there is to a scene."""

    world: Any
    truths = 1

    def caption(self, scene: Any, rng: np.random.Generator) -> str:
        """The descriptive caption."""
        return self.world.captions(scene, rng)[1].text


def until(violated: Bool[np.ndarray, " steps"]) -> float:
    """The share of a clip's steps before the first that is a violation; 1 where none is."""
    return float(violated.argmax()) / len(violated) if violated.any() else 1.0


def resized(suite: Suite, size: Size) -> Suite:
    """Returns a suite that asks for clips of another size."""
    changed: Any = suite
    return dataclasses.replace(changed, size=size)


def cases(suite: Suite, count: int, *, seed: int = 0) -> list[Case]:
    """Returns `count` cases, none of which any training data holds by the same random numbers.

    Raises ValueError where the suite's size has fewer frames than it needs, or sides of less than
    LEAST_SIDE.
    """
    size = suite.size
    if min(size[1:]) < LEAST_SIDE:
        raise ValueError(
            f"{suite.name} cannot be judged at {size}: worlds are drawn with {LEAST_SIDE} pixels "
            "a side at least"
        )
    if size.frames < suite.least:
        raise ValueError(
            f"{suite.name} cannot be judged at {size}: it needs {suite.least} frames at least"
        )
    seconds = size.frames / FPS if size.frames > 1 else 0.0
    setting = Setting.of(height=size.height, width=size.width, seconds=seconds)
    found = []
    for index in range(count):
        rng = stream(seed, index, _ASKING)
        scene = suite.world.scene(rng, setting)
        found.append(
            Case(world=suite.world, scene=scene, caption=suite.caption(scene, rng), size=size)
        )
    return found
