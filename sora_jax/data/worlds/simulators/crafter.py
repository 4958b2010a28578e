"""Crafter, a small world like Minecraft seen from above, with a scripted player.

Four steps are done a second, and shown as in the world of the game. Animals neither appear nor
vanish: Crafter would choose them in an order that differs between runs of the same seed, and things
that come from nowhere are no lesson.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Int, UInt8

from sora_jax.arrays import Size
from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.simulators.clips import (
    FRAMES_PER_STEP,
    Clip,
    OpenedSimulator,
    opened,
    package,
    step_of,
)
from sora_jax.data.worlds.world import stream

Policy = Literal["gatherer", "walker", "wanderer"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_TURNS = {"left": "up", "up": "right", "right": "down", "down": "left"}
_CELLS = 9
"""On the shorter side, of which the lowest two rows or so show what the player carries."""
_WARM = 12
_THINGS = {"tree": "trees", "water": "water", "stone": "stone", "sand": "sand"}
_FEW = 3
_SAYINGS: dict[Policy, tuple[str, ...]] = {
    "gatherer": ("heads for the nearest tree to chop it", "goes to the nearest tree for wood"),
    "walker": (
        "walks straight on, turning where it must",
        "keeps walking, turning only where it must",
    ),
    "wanderer": ("wanders at random", "walks about aimlessly"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crafter:
    """A source of clips of Crafter. Opening takes some 0.2 s a clip, for the making of its world.

    size  of clips: 9 cells on the shorter side, and a whole number of pixels for each; what is left
          over is a black border.
    area  cells of a world, across and down.
    """

    clips: int = 100
    size: Size = Size(17, 63, 63)
    fps: float = 8.0
    seed: int = 0
    policies: tuple[Policy, ...] = POLICIES
    area: tuple[int, int] = (32, 32)

    @property
    def name(self) -> str:
        return "crafter"

    def open(self) -> OpenedSimulator:
        """Runs every clip. Raises ImportError if the package is missing."""
        package("crafter")
        return opened(self)

    def simulate(self, index: int) -> Clip:
        """See `clips.Simulator`; the clip's state is a `CrafterState`."""
        rng = stream(self.seed, index)
        game = _Game(self, rng)
        wanted = self.policies[int(rng.integers(len(self.policies)))]
        for _ in range(int(rng.integers(_WARM))):
            game.step(wanted, rng)
        game.events.clear()
        game.steps = 0
        # Without a tree to go to there is no gatherer.
        policy = wanted if wanted != "gatherer" or game.way_to("tree") else "wanderer"
        moments = [game.moment()]
        for _ in range(self.size.frames // FRAMES_PER_STEP):
            game.step(policy, rng)
            moments.append(game.moment())
        shown = step_of(self.size.frames)
        pictures, semantic, players, carried = (
            np.stack(each)[shown] for each in zip(*moments, strict=True)
        )
        state = CrafterState(
            policy=policy,
            names=game.names,
            semantic=semantic,
            player=players,
            carried=carried,
            items=game.items,
            events=tuple(game.events),
            seen=game.seen_around(semantic[0], players[0]),
        )
        return Clip(frames=pictures, captions=_captions(state, rng), state=state)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CrafterState:
    """What is true of a clip.

    names     what the numbers of `semantic` mean.
    semantic  what is in each cell of the world.
    player    (across, down) of the player's cell.
    carried   how much of each of `items` the player has (health and hunger are among them).
    events    (step, achievement) of what was achieved, such as (3, "collect_wood"); the first step
              is 1, and is shown by frames 1 and 2.
    seen      names of what is in the picture at first.
    """

    policy: Policy
    names: tuple[str, ...]
    semantic: Int[np.ndarray, "frames across down"] | UInt8[np.ndarray, "frames across down"]
    player: Int[np.ndarray, "frames 2"]
    carried: Int[np.ndarray, "frames items"]
    items: tuple[str, ...]
    events: tuple[tuple[int, str], ...]
    seen: tuple[str, ...]


class _Game:
    """A running game, and what its scripted players need to know."""

    def __init__(self, source: Crafter, rng: np.random.Generator) -> None:
        crafter = package("crafter")
        height, width = source.size.height, source.size.width
        side = min(height, width)
        self.view = tuple(int(_CELLS * pixels / side) for pixels in (width, height))
        self.env = crafter.Env(
            area=source.area, view=self.view, size=(width, height), seed=int(rng.integers(2**31))
        )
        self.env._balance_chunk = lambda chunk, objects: None
        self.picture = self.env.reset()
        self.actions: list[str] = self.env.action_names
        self.walkable = {*crafter.constants.walkable}
        kinds = ("player", "cow", "zombie", "skeleton", "arrow", "plant")
        self.names: tuple[str, ...] = ("", *crafter.constants.materials, *kinds)
        self.items: tuple[str, ...] = tuple(crafter.constants.items)
        self.events: list[tuple[int, str]] = []
        self.facing = "down"
        self.steps = 0
        self._take(*self.env.step(self.actions.index("noop")))

    def _take(self, picture: np.ndarray, _: float, __: bool, info: dict[str, Any]) -> None:
        self.picture, self.semantic = picture, info["semantic"]
        self.player = tuple(int(each) for each in info["player_pos"])
        self.carried = [info["inventory"][item] for item in self.items]
        self.achieved = dict(info["achievements"])

    def moment(self) -> tuple[np.ndarray, ...]:
        """Picture, world, player's cell and what it has."""
        return self.picture, self.semantic, np.array(self.player), np.array(self.carried)

    def step(self, policy: Policy, rng: np.random.Generator) -> None:
        self.steps += 1
        before = self.achieved
        action = self._choice(policy, rng)
        if action in _WAYS:
            self.facing, action = action, f"move_{action}"
        self._take(*self.env.step(self.actions.index(action)))
        for name, count in self.achieved.items():
            if count > before[name]:
                self.events.append((self.steps, name))

    def _choice(self, policy: Policy, rng: np.random.Generator) -> str:
        if policy == "gatherer":
            way = self.way_to("tree")
            if way:
                near = self._at(self._beside(self.player, way[0])) == "tree"
                return "do" if near and way[0] == self.facing else way[0]
        free = [way for way in _WAYS if self._free(self._beside(self.player, way))]
        if policy == "walker" and free:
            way = self.facing
            while way not in free:
                way = _TURNS[way]
            return way
        return free[int(rng.integers(len(free)))] if free else "noop"

    def way_to(self, name: str) -> list[str]:
        """The first steps to the nearest cell of a name: empty if none can be reached."""
        seen, ways = {self.player}, [(self.player, "")]
        for cell, first in ways:
            for way in _WAYS:
                beside = self._beside(cell, way)
                if self._at(beside) == name:
                    return [first or way]
                if beside not in seen and self._free(beside):
                    seen.add(beside)
                    ways.append((beside, first or way))
        return []

    def _beside(self, cell: tuple[int, ...], way: str) -> tuple[int, ...]:
        return cell[0] + _WAYS[way][0], cell[1] + _WAYS[way][1]

    def _at(self, cell: tuple[int, ...]) -> str:
        inside = all(0 <= each < size for each, size in zip(cell, self.semantic.shape, strict=True))
        return self.names[self.semantic[cell]] if inside else ""

    def _free(self, cell: tuple[int, ...]) -> bool:
        return self._at(cell) in self.walkable

    def seen_around(self, semantic: np.ndarray, player: np.ndarray) -> tuple[str, ...]:
        """What there are at least three cells of in the picture."""
        across, down = self.view[0], self.view[1] - int(np.ceil(len(self.items) / self.view[0]))
        left, top = np.maximum(0, player - np.array([across, down]) // 2)
        around = semantic[left : left + across, top : top + down]
        counts: Bool[np.ndarray, " names"] = (
            np.bincount(around.ravel(), minlength=len(self.names)) >= _FEW
        )
        return tuple(name for name, many in zip(self.names, counts, strict=True) if many)


def _captions(state: CrafterState, rng: np.random.Generator) -> tuple[Caption, ...]:
    policy = phrases.one_of(rng, _SAYINGS[state.policy])
    world = phrases.one_of(rng, ("a Minecraft-like world", "a Minecraft-like world from above"))
    things = [_THINGS[name] for name in state.seen if name in _THINGS]
    around = f" with {phrases.listed(things)}" if things else ""
    events = [policy, *_events(state)]
    short = phrases.one_of(rng, (f"{world}: a player {policy}", f"a player {policy} in {world}"))
    text = f"in {world}{around}, a player {phrases.listed(events)}"
    other = f"a player {phrases.listed(events)}, in {world}{around}"
    long = phrases.sentence(phrases.one_of(rng, (text, other)))
    return Caption(text=short), Caption(text=long, kind="descriptive")


def _events(state: CrafterState) -> list[str]:
    """What really happened, in words."""
    told = []
    across, down = (int(each) for each in state.player[-1] - state.player[0])
    for cells, ways in ((across, ("left", "right")), (down, ("up", "down"))):
        if cells:
            cell = "cell" if abs(cells) == 1 else "cells"
            told.append(f"moves {ways[cells > 0]} by {phrases.number(abs(cells))} {cell}")
    wood = sum(name == "collect_wood" for _, name in state.events)
    if wood:
        pieces = "piece" if wood == 1 else "pieces"
        told.append(f"collects {phrases.number(wood)} {pieces} of wood")
    return told
