"""ViZDoom: walks and turns through textured rooms, with the camera's pose and depth known."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sora_jax.arrays import Size
from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.simulators.clips import Clip, OpenedSimulator, opened, package
from sora_jax.data.worlds.world import stream

Policy = Literal["walker", "turner", "strafer"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

_SCREENS = ((160, 120), (320, 240), (640, 480), (1280, 960))
"""(width, height) of pictures that the simulator draws, all of 4:3."""
_TICS = 4
"""Of the simulator's 35 a second, for each frame."""
_TURN = 15.0
"""Degrees a frame that a walker turns at a wall,"""
_NEAR = 8
"""which it sees by a depth of less than this."""
_SPINS = (3.0, 9.0)
_WARM = 30
_MOVED, _TURNED = 60.0, 20.0
"""From how many units of the map and how many degrees on a move and a turn are told."""
_TRIES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViZDoom:
    """A source of clips of ViZDoom's scenario my_way_home: a maze of rooms of many textures.

    size  of clips: the middle of a picture of 4:3, made smaller.
    fps   what the clips are said to have; four of Doom's 35 tics a second pass in a frame.
    """

    clips: int = 100
    size: Size = Size(17, 64, 64)
    fps: float = 8.0
    seed: int = 0
    policies: tuple[Policy, ...] = POLICIES

    @property
    def name(self) -> str:
        return "vizdoom"

    def open(self) -> OpenedSimulator:
        """Runs every clip. Raises ImportError if the package is missing."""
        package("vizdoom")
        return opened(self)

    def simulate(self, index: int) -> Clip:
        """See `clips.Simulator`; the clip's state is a `ViZDoomState`."""
        rng = stream(self.seed, index)
        for _ in range(_TRIES):
            policy = self.policies[int(rng.integers(len(self.policies)))]
            moments = _moments(self.size, policy, rng)
            if moments:
                return _clip(moments, self.size, policy, rng)
        raise RuntimeError(f"clip {index}: {_TRIES} walks all ended before their time")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ViZDoomState:
    """What is true of a clip.

    position  (x, y, z) of the player in units of the map; a person is 56 high.
    angle     in degrees, counter-clockwise, as seen from above; 0 looks along x.
    depth     of each pixel as the simulator gives it: 0 is near and 255 far.
    focal     length in pixels across: how wide something of width 1 is at a distance of 1.
    """

    policy: Policy
    position: Float[np.ndarray, "frames 3"]
    angle: Float[np.ndarray, " frames"]
    depth: UInt8[np.ndarray, "frames height width"]
    focal: float


Moment = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Picture, depth and (x, y, z, angle)."""


def _moments(size: Size, policy: Policy, rng: np.random.Generator) -> list[Moment]:
    """The moments of a walk; none if it came to its goal before its time."""
    # The simulator writes its settings to a file, and makes a folder where the program runs.
    made = Path("_vizdoom")
    there = made.exists()
    with tempfile.TemporaryDirectory() as folder:
        game = _game(size, int(rng.integers(2**31)), folder)
        try:
            return _played(game, policy, size.frames, rng)
        finally:
            game.close()
            if not there:
                with contextlib.suppress(OSError):
                    made.rmdir()


def _screen(size: Size) -> tuple[int, int]:
    """The smallest picture that need not be enlarged."""
    for width, height in _SCREENS:
        if width >= size.width and height >= size.height:
            return width, height
    raise ValueError(f"{size} is more than the simulator draws: {_SCREENS[-1]}")


def _game(size: Size, seed: int, folder: str) -> Any:
    vizdoom = package("vizdoom")
    width, height = _screen(size)
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / "my_way_home.cfg"))
    game.set_doom_config_path(str(Path(folder) / "vizdoom.ini"))
    game.set_seed(seed)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{width}X{height}"))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    game.set_render_hud(False)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons(
        [button.MOVE_FORWARD, button.MOVE_LEFT, button.MOVE_RIGHT, button.TURN_LEFT_RIGHT_DELTA]
    )
    game.set_available_game_variables(
        [variable.POSITION_X, variable.POSITION_Y, variable.POSITION_Z, variable.ANGLE]
    )
    game.init()
    return game


def _played(game: Any, policy: Policy, frames: int, rng: np.random.Generator) -> list[Moment]:
    """See `_moments`."""
    side = int(rng.integers(2))
    spin = float(rng.uniform(*_SPINS)) * (1 if side else -1)
    found: list[Moment] = []
    warm = int(rng.integers(_WARM))
    for step in range(warm + frames):
        if game.is_episode_finished():
            return []
        state = game.get_state()
        depth = state.depth_buffer.copy()
        if step >= warm:
            found.append((state.screen_buffer.copy(), depth, state.game_variables.copy()))
        # A clip begins somewhere on a walk.
        action = _action(policy if step >= warm else "walker", depth, side, spin)
        game.make_action(action, _TICS)
    return found


def _action(policy: Policy, depth: np.ndarray, side: int, spin: float) -> list[float]:
    """Forward, left, right, and degrees to the right for each tic."""
    if policy == "turner":
        return [0.0, 0.0, 0.0, spin / _TICS]
    if policy == "strafer":
        return [0.0, 1.0 - side, float(side), 0.0]
    middle = depth[depth.shape[0] // 2]
    left, ahead, right = (part.mean() for part in np.array_split(middle, 3))
    if ahead >= _NEAR:
        return [1.0, 0.0, 0.0, 0.0]
    return [0.0, 0.0, 0.0, (_TURN if right > left else -_TURN) / _TICS]


def _clip(moments: list[Moment], size: Size, policy: Policy, rng: np.random.Generator) -> Clip:
    pictures, depths, poses = zip(*moments, strict=True)
    height, width = pictures[0].shape[:2]
    # The largest part of the middle that has the clip's aspect.
    scale = min(height / size.height, width / size.width)
    high, wide = scale * size.height, scale * size.width
    box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
    shape = (size.width, size.height)

    def shrunk(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(picture).resize(shape, how, box=box))

    pose = np.array(poses, float)
    state = ViZDoomState(
        policy=policy,
        position=pose[:, :3],
        angle=pose[:, 3],
        depth=np.stack([shrunk(depth, Image.Resampling.NEAREST) for depth in depths]),
        # The field of view is 90 degrees across the uncut picture.
        focal=width / 2 / scale,
    )
    frames = np.stack([shrunk(picture, Image.Resampling.BOX) for picture in pictures])
    return Clip(frames=frames, captions=_captions(state, rng), state=state)


def _captions(state: ViZDoomState, rng: np.random.Generator) -> tuple[Caption, ...]:
    turned = float(np.diff(np.unwrap(state.angle, period=360)).sum())
    moved = float(np.hypot(*np.diff(state.position[:, :2], axis=0).T).sum())
    parts, exact = [], []
    if moved >= _MOVED:
        move = {"walker": ("walks forward", "goes ahead"), "strafer": ("moves sideways",)}
        parts.append(phrases.one_of(rng, move.get(state.policy, ("drifts on",))))
        exact.append(f"{parts[-1]} for about {round(moved / 56)} times a person's height")
    if abs(turned) >= _TURNED:
        way = "left" if turned > 0 else "right"
        parts.append(phrases.one_of(rng, (f"turns to the {way}", f"turns {way}")))
        exact.append(f"{parts[-1]} by about {round(abs(turned), -1):.0f} degrees in all")
    place = phrases.one_of(rng, ("a Doom-like maze", "the rooms of a Doom-like maze"))
    who = phrases.one_of(rng, ("the camera", "a player seen through their own eyes"))
    still = phrases.one_of(rng, ("hardly moves", "stays almost where it is"))
    short = f"{who} {' and '.join(parts) or still} in {place}"
    long = f"in {place} with textured walls, {who} {' and '.join(exact) or still}"
    return Caption(text=short), Caption(text=phrases.sentence(long), kind="descriptive")
