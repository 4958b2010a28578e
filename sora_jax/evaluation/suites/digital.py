"""Is a game played by its rules, and as its caption says, from nothing but the caption?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from sora_jax.arrays import Size
from sora_jax.data.worlds.game import FRAMES_PER_STEP, Game, Play
from sora_jax.data.worlds.game_rules import (
    UNCLEAR,
    Explanation,
    State,
    Violation,
    collected,
    implied,
    return_of,
)
from sora_jax.data.worlds.world import Frames, World, stream
from sora_jax.evaluation.broken import Floor
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric, until

Break = Violation | Literal["flicker"]
"""What a clip can break: rules, and that nothing happens between two steps."""

_FLOORS: dict[Break, Floor] = {
    "unclear": "stretched",
    "birth": "shuffled",
    "death": "shuffled",
    "wall crossing": "spliced",
    "teleport": "shuffled",
    "flicker": "alternating",
}
"""The broken clips in which each kind of violation is most frequent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digital(Described):
    """Coinquest, played by one who heads for the coins."""

    name = "digital"
    size: Size = SIZE
    least = 3
    # Of clips that are joined from two, one step in sixteen goes through a wall.
    truths = 4

    @property
    def world(self) -> World:
        return Game(policies=("collector",))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="explained",
                better="high",
                floor="shuffled",
                about="transitions that a legal action explains, with nothing else between",
            ),
            Metric(
                name="clear",
                better="high",
                floor="stretched",
                about="frames that are a state of the game",
            ),
            Metric(
                name="moves",
                better="high",
                floor="frozen",
                about="transitions in which the player takes a legal step",
            ),
            Metric(
                name="return_over_random",
                better="high",
                floor="shuffled",
                about="coins that the implied actions collect in the real rules, less random play,"
                " from the first clear board on, which must come in the first quarter",
            ),
            Metric(
                name="until_violation",
                better="high",
                floor="shuffled",
                about="share of the clip before the first transition that nothing explains",
            ),
            *(
                Metric(
                    name=_named(kind),
                    better="low",
                    floor=_FLOORS[kind],
                    about=_about(kind),
                )
                for kind in _FLOORS
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        play: Play = case.world.read(frames)
        boards = play.cells[::FRAMES_PER_STEP]
        explanations = implied(boards)
        states = [State.of(board) for board in play.cells]
        breaks = _breaks(play.cells, explanations)
        explanations = [
            Explanation() if kind else each for kind, each in zip(breaks, explanations, strict=True)
        ]
        actions = [each.action for each in explanations]
        violations = np.array([kind or "" for kind in breaks])
        # What is no state of the game breaks no rule of it, and keeps none.
        clear = violations[violations != "unclear"]
        gain = float("nan")
        # Of what is clear at the end alone there is no return, and so nothing below random play.
        soon = boards[:-1][: max(1, len(boards) // 4)]
        for number, start in enumerate(map(State.of, soon)):
            if start is not None:
                rng = stream(len(frames), int((boards != UNCLEAR).sum()))
                rest = explanations[number:]
                random = return_of("wanderer", start, len(rest), rng=rng)
                gain = collected(start, rest) - random
                break
        return {
            "explained": float(np.mean(violations == "")),
            "clear": float(np.mean([state is not None for state in states])),
            "moves": float(np.mean([action not in (None, "stay") for action in actions])),
            "return_over_random": gain,
            "until_violation": until(violations != ""),
            "unclear": float(np.mean(violations == "unclear")),
            **{
                _named(kind): float(np.mean(clear == kind)) if len(clear) else float("nan")
                for kind in _FLOORS
                if kind != "unclear"
            },
        }


def _breaks(
    cells: Int[np.ndarray, "frames rows columns"], explanations: Sequence[Explanation]
) -> list[Break | None]:
    """What each transition breaks. Frames between two steps show one of the two states; where they
    do not, that breaks what no rule does: "unclear" for what is no state, else "flicker"."""
    found: list[Break | None] = []
    for number, each in enumerate(explanations):
        at = number * FRAMES_PER_STEP
        before, *between, after = cells[at : at + FRAMES_PER_STEP + 1]
        other = [b for b in between if not (np.array_equal(b, before) or np.array_equal(b, after))]
        if each.violation or not other:
            found.append(each.violation)
        else:
            found.append("unclear" if any(State.of(b) is None for b in other) else "flicker")
    return found


def _about(kind: Break) -> str:
    if kind == "unclear":
        return "transitions from, to or by way of what is no state of the game"
    if kind == "flicker":
        return "clear transitions that go by way of a third state"
    return f"clear transitions that break the rules, first of all by: {kind}"


def _named(kind: Break) -> str:
    return kind.replace(" ", "_")


assert set(_FLOORS) == {kind for part in get_args(Break) for kind in get_args(part)}
