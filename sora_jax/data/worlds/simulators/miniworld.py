"""MiniWorld: rooms with coloured things, seen by a camera that turns once around or walks.

In a turn of 360 degrees the last frame is the first again, to the pixel: what a model forgets while
it looks away is seen at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from sora_jax.arrays import Size
from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.simulators.clips import Clip, OpenedSimulator, opened, package
from sora_jax.data.worlds.world import stream

Policy = Literal["spin", "walk"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

Room = Literal["OneRoom", "RoomObjects", "FourRooms"]
ROOMS: tuple[Room, ...] = get_args(Room)

_PLACES: dict[Room, tuple[str, ...]] = {
    "OneRoom": ("a plain room", "an indoor room"),
    "RoomObjects": ("a yard with brick walls", "an open yard walled with bricks"),
    "FourRooms": ("a house of four rooms", "one of four connected rooms"),
}
_LEAST = 0.002
"""The least part of a picture in which a thing is told of."""
_WAYS = 12
_WALKED = 0.5
"""Metres from which on a walk is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniWorld:
    """A source of clips of MiniWorld, drawn without a display.

    policies  "spin" turns by 360 degrees in all, evenly; "walk" goes forward until a wall.
    """

    clips: int = 100
    size: Size = Size(17, 64, 64)
    fps: float = 8.0
    seed: int = 0
    policies: tuple[Policy, ...] = POLICIES
    rooms: tuple[Room, ...] = ROOMS

    @property
    def name(self) -> str:
        return "miniworld"

    def open(self) -> OpenedSimulator:
        """Runs every clip. Raises ImportError if the package is missing."""
        _envs()
        return opened(self)

    def simulate(self, index: int) -> Clip:
        """See `clips.Simulator`; the clip's state is a `MiniWorldState`."""
        rng = stream(self.seed, index)
        room = self.rooms[int(rng.integers(len(self.rooms)))]
        policy = self.policies[int(rng.integers(len(self.policies)))]
        env = _environment(room, self.size.height, self.size.width)
        env.reset(seed=int(rng.integers(2**31)))
        start = float(env.agent.dir) if policy == "spin" else _ahead(env, rng)
        env.agent.dir, way = start, (1, -1)[int(rng.integers(2))]
        pictures, depths, positions, angles, seen = [], [], [], [], set()
        for frame in range(self.size.frames):
            if policy == "spin":
                # A whole turn is none, exactly: so that the last frame is the first.
                part = frame % (self.size.frames - 1) / (self.size.frames - 1)
                env.agent.dir = start + way * 2 * np.pi * part
                angles.append(start + way * 2 * np.pi * frame / (self.size.frames - 1))
            else:
                if frame:
                    env.step(env.actions.move_forward)
                angles.append(start)
            positions.append(np.array(env.agent.pos, float))
            pictures.append(env.render_obs().copy())
            depths.append(env.render_depth()[..., 0].copy())
            seen |= _seen(env, depths[-1])
        state = MiniWorldState(
            policy=policy,
            room=room,
            position=np.stack(positions),
            angle=np.array(angles),
            depth=np.stack(depths).astype(np.float32),
            field_of_view=float(env.agent.cam_fov_y),
            things=tuple(
                (_called(each), (float(each.pos[0]), float(each.pos[1]), float(each.pos[2])))
                for each in _things(env)
            ),
            seen=tuple(sorted(seen)),
        )
        return Clip(frames=np.stack(pictures), captions=_captions(state, rng), state=state)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MiniWorldState:
    """What is true of a clip.

    position       (x, y, z) of the camera's foot in metres; y is up, and the eye is 1.5 higher.
    angle          in radians, growing to the left, not wrapped; 0 looks along x, and a quarter turn
                   along -z.
    depth          of each pixel, in metres.
    field_of_view  from the lower to the upper edge, in degrees.
    things         name and (x, y, z) of each thing in the rooms.
    seen           names of those that cover at least 0.2 % of any frame.
    """

    policy: Policy
    room: Room
    position: Float[np.ndarray, "frames 3"]
    angle: Float[np.ndarray, " frames"]
    depth: Float[np.ndarray, "frames height width"]
    field_of_view: float
    things: tuple[tuple[str, tuple[float, float, float]], ...]
    seen: tuple[str, ...]


def _envs() -> Any:
    """The package's rooms. pyglet is told to do without a display before they are imported."""
    package("pyglet").options["headless"] = True
    return package("miniworld.envs")


@functools.lru_cache(maxsize=8)
def _environment(room: Room, height: int, width: int) -> Any:
    """A room that draws pictures of a size. (Each has a context of OpenGL, so few are made.)"""
    # What it prints there, of how finely it smooths edges, is of no use.
    with contextlib.redirect_stdout(None):
        return getattr(_envs(), room)(obs_height=height, obs_width=width)


def _things(env: Any) -> list[Any]:
    return [each for each in env.entities if each is not env.agent]


def _seen(env: Any, depth: np.ndarray) -> set[str]:
    """Names of the things without which another depth would be seen, in enough pixels."""
    found, entities = set(), env.entities
    for thing in _things(env):
        env.entities = [each for each in entities if each is not thing]
        if (env.render_depth()[..., 0] != depth).sum() >= _LEAST * depth.size:
            found.add(_called(thing))
        env.entities = entities
    return found


def _ahead(env: Any, rng: np.random.Generator) -> float:
    """A direction worth walking in: to a thing that is to be seen there, or else the most open."""
    things = _things(env)
    open_to: dict[float, float] = {}
    for index in rng.permutation(len(things)):
        off = things[int(index)].pos - env.agent.pos
        env.agent.dir = float(np.arctan2(-off[2], off[0]))
        if _seen(env, env.render_depth()[..., 0].copy()) & {_called(things[int(index)])}:
            return env.agent.dir
    for angle in np.arange(_WAYS) * 2 * np.pi / _WAYS:
        env.agent.dir = float(angle)
        depth = env.render_depth()[..., 0]
        height, width = depth.shape
        open_to[float(angle)] = float(depth[height // 2, width // 3 : width - width // 3].min())
    return max(open_to, key=lambda angle: open_to[angle])


def _called(entity: Any) -> str:
    """A thing's colour and name: "red box"."""
    if hasattr(entity, "color"):
        return f"{entity.color} {type(entity).__name__.lower()}"
    # Of a mesh it is known only by the file that it came from: ball_red.obj.
    cache = package("miniworld.objmesh").ObjMesh.cache
    path = next(path for path, mesh in cache.items() if mesh is entity.mesh)
    name, colour = Path(path).stem.split("_")[:2]
    return f"{colour} {name}"


def _captions(state: MiniWorldState, rng: np.random.Generator) -> tuple[Caption, ...]:
    if state.policy == "spin":
        way = "left" if state.angle[-1] > state.angle[0] else "right"
        forms = (f"turns once around to the {way}", f"turns a full circle to the {way}")
    elif np.linalg.norm(state.position[-1] - state.position[0]) >= _WALKED:
        forms = ("walks forward", "moves straight ahead")
    else:
        forms = ("stands before a wall or a thing", "hardly moves")
    happens = phrases.one_of(rng, forms)
    place = phrases.one_of(rng, _PLACES[state.room])
    camera = phrases.one_of(rng, ("the camera", "a robot with a camera"))
    short = phrases.one_of(
        rng, (f"{camera} {happens} in {place}", f"in {place}, {camera} {happens}")
    )
    long = f"in {place}, {camera} {happens}"
    if state.policy == "spin":
        long += phrases.one_of(rng, (" by 360 degrees", ", until it is back where it began"))
    if state.seen:
        things = phrases.listed([f"a {name}" for name in state.seen])
        long += phrases.one_of(rng, (f"; there is {things} to be seen", f"; it sees {things}"))
    long = phrases.sentence(long)
    return Caption(text=short), Caption(text=long, kind="descriptive")
