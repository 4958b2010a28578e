"""Do things come from nowhere, vanish, or turn into others? Counted where nothing may do so."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy import ndarray

from sora_jax.data.worlds.balls import Balls, fall_residual
from sora_jax.data.worlds.balls_flight import GRAVITY
from sora_jax.data.worlds.seeing import Seen
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric, until

# More than this part of the shorter side from a frame to the next is a jump.
_JUMP = 0.15

# Deviations from free fall of more than this part of gravity are seen; what hangs in the air has 1.
_FLOATING = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects(Described):
    """Up to three shapes that never leave the picture nor hide one another."""

    name = "objects"
    size = SIZE
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
            "until_violation": until((births | deaths | changes | jumps).any(1)),
        }


def _births_and_deaths(things: str) -> tuple[Metric, Metric]:
    births, deaths = (
        Metric(name=name, better="low", floor="spliced", about=f"{things} that {do}, 100 frames")
        for name, do in (("births", "appear"), ("deaths", "vanish"))
    )
    return births, deaths


def _events(seen: Seen, *, side: int) -> tuple[ndarray, ndarray, ndarray]:
    """From each frame to the next, of each colour [steps, colours]: births, deaths and jumps."""
    births = seen.visible[1:] & ~seen.visible[:-1]
    deaths = seen.visible[:-1] & ~seen.visible[1:]
    ways = np.linalg.norm(np.diff(seen.centre, axis=0), axis=-1) / side
    return births, deaths, np.nan_to_num(ways) > _JUMP


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falling(Described):
    """Balls under gravity: between contacts they fall as they must."""

    name = "falling"
    size = SIZE
    least = 3

    @property
    def world(self) -> World:
        return Balls()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="fall_error",
                better="low",
                floor="shuffled",
                about="deviation of the acceleration between contacts, in units of gravity",
            ),
            *_births_and_deaths("balls"),
            Metric(
                name="until_violation",
                better="high",
                floor="shuffled",
                about="share of the clip before the first of these, a jump, or a ball that floats",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        if not seen.visible.any():
            return dict.fromkeys((metric.name for metric in self.metrics), float("nan"))
        height, width = frames.shape[1:3]
        births, deaths, jumps = _events(seen, side=min(height, width))
        residual = np.abs(fall_residual(seen, fps=FPS, height=height, width=width)) / GRAVITY
        told = residual[np.isfinite(residual)]
        violated = np.any(births | deaths | jumps, axis=1)
        # Three frames tell of a fall, and the step to the last of them whether it goes on.
        violated[1:] |= (np.nan_to_num(residual) > _FLOATING).any((1, 2))
        return {
            "fall_error": float(np.median(told)) if len(told) else float("nan"),
            "births": 100 * births.sum() / len(births),
            "deaths": 100 * deaths.sum() / len(deaths),
            "until_violation": until(violated),
        }
