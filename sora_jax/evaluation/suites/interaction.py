"""Do actions leave their marks on the world: strokes, bites, fragments?"""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.worlds.eater import Eater
from sora_jax.data.worlds.eater_seeing import Eaten, eating
from sora_jax.data.worlds.painter import Painter
from sora_jax.data.worlds.painter_seeing import interaction
from sora_jax.data.worlds.shatter import Shatter
from sora_jax.data.worlds.shatter_seeing import (
    State,
    area_error,
    breaks_at_contact,
    breaks_without_contact,
    pieces_after,
    reassembles,
)
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painting(Described):
    """A brush whose strokes stay."""

    name = "painting"
    size: Size = SIZE
    least = 7

    @property
    def world(self) -> World:
        return Painter()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="persistence",
                better="high",
                floor="shuffled",
                about="overlap (IoU) of strokes away from the brush from frame to frame",
            ),
            Metric(
                name="vanished",
                better="low",
                floor="shuffled",
                about="share of stroke that is gone in the next frame",
            ),
            Metric(
                name="phantom",
                better="low",
                floor="shuffled",
                about="share of stroke that appears where no brush is",
            ),
            Metric(
                name="creation",
                better="high",
                floor="frozen",
                about="places that the brush came to and left, and only then have its colour",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        found = dataclasses.asdict(interaction(case.world.read(frames)))
        if np.isnan(found["creation"]):
            count, height, width = case.size
            times = np.arange(count) / FPS
            truth = case.world.truth(case.scene, times, height=height, width=width)
            # A brush that comes to no place has made nothing, where the true one comes to some.
            if not np.isnan(interaction(truth).creation):
                found["creation"] = 0.0
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eating(Described):
    """A mouth that takes bites out of food."""

    name = "eating"
    size: Size = SIZE
    least = 6

    @property
    def world(self) -> World:
        return Eater()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="bite_at_contact",
                better="high",
                floor="shuffled",
                about="contacts after which food is missing: the state change is right",
            ),
            Metric(
                name="idle_change",
                better="low",
                floor="shuffled",
                about="share of the food that changes from frame to frame without contact",
            ),
            Metric(
                name="growth",
                better="low",
                floor="reversed",
                about="share of the food that comes back",
            ),
            Metric(
                name="persistence",
                better="high",
                floor="bent",
                about="overlap (IoU) of bite marks from frame to frame",
            ),
            Metric(
                name="bites",
                better="high",
                floor="crossed",
                about="clips with as many bites at the end as are asked for",
                yes_no=True,
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        state: Eaten = case.world.read(frames)
        truth: Eaten = case.world.truth(
            case.scene, np.arange(len(frames)) / FPS, height=frames.shape[1], width=frames.shape[2]
        )
        return dataclasses.asdict(eating(state)) | {"bites": float(_last(state) == _last(truth))}


def _last(state: Eaten) -> int:
    told = state.bites[state.bites >= 0]
    return int(told[-1]) if len(told) else -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shattering(Described):
    """Glass that breaks when it hits the floor, and rubber that does not."""

    name = "shattering"
    size: Size = SIZE
    least = 16

    @property
    def world(self) -> World:
        return Shatter(rubber=0.5)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="breaks",
                better="high",
                floor="crossed",
                about="contacts at which glass breaks, and not before, and rubber does not",
                yes_no=True,
            ),
            Metric(
                name="area_error",
                better="low",
                floor="stretched",
                about="greatest change of its area, as a share (mass is conserved)",
            ),
            Metric(
                name="reassembles",
                better="low",
                floor="reversed",
                about="clips in which there are fewer pieces than before",
                yes_no=True,
            ),
            Metric(
                name="pieces",
                better="high",
                floor="frozen",
                about="clips with as many pieces as are asked for",
                yes_no=True,
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        state: State = case.world.read(frames)
        if not (state.pieces > 0).any():
            return dict.fromkeys((metric.name for metric in self.metrics), float("nan"))
        early = breaks_without_contact(state)
        # Pieces before any contact are wrong of whatever it is made.
        breaks = case.scene.rubber if early else breaks_at_contact(state)
        return {
            "breaks": float("nan") if breaks is None else float(breaks != case.scene.rubber),
            "area_error": area_error(state),
            "reassembles": float(reassembles(state)),
            "pieces": float(pieces_after(state) == len(case.scene.wedges)),
        }
