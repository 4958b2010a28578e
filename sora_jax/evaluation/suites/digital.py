"""Is a game played by its rules, and as its caption says, from nothing but the caption?"""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.worlds.game import FRAMES_PER_STEP, Game, Play
from sora_jax.data.worlds.game_rules import (
    UNCLEAR,
    VIOLATIONS,
    State,
    Violation,
    collected,
    implied,
    return_of,
)
from sora_jax.data.worlds.world import Frames, World, stream
from sora_jax.evaluation.broken import Floor
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric, until

_FLOORS: dict[Violation, Floor] = {
    "unclear": "stretched",
    "birth": "shuffled",
    "death": "shuffled",
    "wall crossing": "spliced",
    "teleport": "shuffled",
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
                about="transitions that a legal action explains",
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
                    about=f"clear transitions that break the rules, first of all by: {kind}"
                    if kind != "unclear"
                    else "transitions from or to what is no state of the game",
                )
                for kind in VIOLATIONS
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        play: Play = case.world.read(frames)
        boards = play.cells[::FRAMES_PER_STEP]
        explanations = implied(boards)
        states = [State.of(board) for board in play.cells]
        actions = [each.action for each in explanations]
        violations = np.array([each.violation or "" for each in explanations])
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
                for kind in VIOLATIONS
                if kind != "unclear"
            },
        }


def _named(kind: Violation) -> str:
    return kind.replace(" ", "_")
