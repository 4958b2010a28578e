"""Do things come from nowhere, vanish, or turn into others? Counted where nothing may do so."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy import ndarray

from sora_jax.arrays import Size
from sora_jax.data.worlds.balls import FLIGHT, Balls, flights
from sora_jax.data.worlds.balls_flight import GRAVITY
from sora_jax.data.worlds.palette import COLOURS
from sora_jax.data.worlds.seeing import Seen
from sora_jax.data.worlds.shapes import KINDS
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric, until

# More than this part of the shorter side from a frame to the next is a jump.
_JUMP = 0.15

# Flights that deviate by more than this part of gravity are no falls; what hangs in the air has 1.
_FLOATING = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects(Described):
    """Up to three shapes that never leave the picture nor hide one another."""

    name = "objects"
    size: Size = SIZE
    least = 2

    @property
    def world(self) -> World:
        return Sprites()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            *_births_and_deaths("things"),
            Metric(
                name="until_violation",
                better="high",
                floor="shuffled",
                about="share of the clip before the first of these, a change of shape, or a jump",
            ),
            Metric(
                name="as_asked",
                better="high",
                floor="crossed",
                about="things (colour and shape) that are asked for or seen: those that are both",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        if not seen.visible.any():
            return dict.fromkeys((metric.name for metric in self.metrics), float("nan"))
        births, deaths, jumps = _events(seen, side=min(frames.shape[1:3]))
        known = (seen.kind[1:] >= 0) & (seen.kind[:-1] >= 0)
        changes = known & (seen.kind[1:] != seen.kind[:-1])
        return {
            "births": 100 * births.sum() / len(births),
            "deaths": 100 * deaths.sum() / len(deaths),
            "until_violation": until(np.any((births + deaths > 0) | changes | jumps, axis=1)),
            "as_asked": _shared(
                {(sprite.colour, sprite.kind) for sprite in case.scene.sprites}, _things(seen)
            ),
        }


def _things(seen: Seen) -> set[tuple[str, str | int]]:
    """Colour and commonest kind of all that is seen in half of the frames or more.

    Of more things of a colour than one, which no scene has, the others have a number for a kind.
    """
    found: set[tuple[str, str | int]] = set()
    for number, colour in enumerate(COLOURS):
        kinds = seen.kind[seen.visible[:, number], number]
        if 2 * len(kinds) >= len(seen.kind) and (kinds := kinds[kinds >= 0]).size:
            found.add((colour, KINDS[np.bincount(kinds).argmax()]))
        found |= {(colour, more) for more in range(2, int(np.median(seen.count[:, number])) + 1)}
    return found


def _shared(one: set[Any], other: set[Any]) -> float:
    """Of what is in either, the share that is in both."""
    return len(one & other) / len(one | other)


def _births_and_deaths(things: str) -> tuple[Metric, Metric]:
    births, deaths = (
        Metric(name=name, better="low", floor="spliced", about=f"{things} that {do}, 100 frames")
        for name, do in (("births", "appear"), ("deaths", "vanish"))
    )
    return births, deaths


def _events(seen: Seen, *, side: int) -> tuple[ndarray, ndarray, ndarray]:
    """From each frame to the next, of each colour [steps, colours]: births, deaths and jumps."""
    more = np.diff(seen.count, axis=0)
    births, deaths = np.maximum(more, 0), np.maximum(-more, 0)
    ways = np.linalg.norm(np.diff(seen.centre, axis=0), axis=-1) / side
    return births, deaths, np.nan_to_num(ways) > _JUMP


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falling(Described):
    """Balls under gravity: between contacts they fall as they must."""

    name = "falling"
    size: Size = SIZE
    least = FLIGHT

    @property
    def world(self) -> World:
        return Balls()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="fall_error",
                better="low",
                floor="frozen",
                about="deviation of the acceleration in free flight from gravity, in units of it",
            ),
            *_births_and_deaths("balls"),
            Metric(
                name="until_violation",
                better="high",
                floor="shuffled",
                about="share of the clip before the first of these, a jump, or a flight that is no"
                " fall",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        if not seen.visible.any():
            return dict.fromkeys((metric.name for metric in self.metrics), float("nan"))
        height, width = frames.shape[1:3]
        births, deaths, jumps = _events(seen, side=min(height, width))
        violated, errors = np.any((births + deaths > 0) | jumps, axis=1), []
        for flight in flights(seen, fps=FPS, height=height, width=width):
            errors.append(float(np.linalg.norm(flight.residual)) / GRAVITY)
            violated[flight.first : flight.last] |= errors[-1] > _FLOATING
        return {
            "fall_error": float(np.median(errors)) if errors else float("nan"),
            "births": 100 * births.sum() / len(births),
            "deaths": 100 * deaths.sum() / len(deaths),
            "until_violation": until(violated),
        }
