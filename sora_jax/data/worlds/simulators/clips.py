"""What the simulators have in common: a clip is run from its beginning, told of, and kept.

A simulator keeps a state, so that frames in the middle of a clip cannot be had without those
before. Opening a source runs every clip once, since captions tell what really happened; reading
runs a clip again, and keeps the last one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from sora_jax.arrays import Size
from sora_jax.data.datasets import Broken, Caption, Record
from sora_jax.data.video import Rate, frames_at_rate
from sora_jax.data.worlds.world import Frames

FRAMES_PER_STEP = 2
"""Where a world has steps and nothing between them: as in the world of the game, see there."""

# Simulators have contexts (of OpenGL, say) that stand no two threads at once.
_ONE_AT_A_TIME = threading.RLock()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """What one run of a simulator gave; `state` is a dataclass of its own file."""

    frames: Frames
    captions: tuple[Caption, ...]
    state: Any


@runtime_checkable
class Simulator(Protocol):
    """A frozen and hashable value: the settings of a source, and how one of its clips is run."""

    @property
    def name(self) -> str: ...

    @property
    def clips(self) -> int: ...

    @property
    def size(self) -> Size: ...

    @property
    def fps(self) -> float: ...

    @property
    def seed(self) -> int: ...

    def simulate(self, index: int) -> Clip:
        """Clip `index`, a function of it and of the settings alone."""
        ...


def package(name: str) -> ModuleType:
    """The module of an optional package. Raises ImportError that says what to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        reason = f"{error.name} is missing, which clips of {name} need"
        raise ImportError(f"{reason}; run: pip install 'sora_jax[worlds]'") from error


def opened(simulator: Simulator) -> OpenedSimulator:
    """Runs every clip and writes the manifest. Raises ValueError for stills, and for settings that
    make no clip."""
    if simulator.size.frames < 2:
        raise ValueError(f"clips of {simulator.name} need 2 frames or more, not {simulator.size}")
    if simulator.clips < 1 or simulator.seed < 0 or not simulator.fps > 0:
        raise ValueError(
            f"{simulator.name}: clips={simulator.clips}, seed={simulator.seed}, "
            f"fps={simulator.fps}: give one clip or more, a seed from 0 on, and a rate above 0"
        )
    for field in ("policies", "rooms"):
        if not getattr(simulator, field, True):
            raise ValueError(f"{simulator.name}: {field} is empty; give one or more")
    records = []
    for index in range(simulator.clips):
        records.append(
            Record(
                name=f"{simulator.name}/{simulator.seed}/{index:08d}",
                frames=simulator.size.frames,
                height=simulator.size.height,
                width=simulator.size.width,
                fps=simulator.fps,
                captions=run(simulator, index).captions,
            )
        )
    return OpenedSimulator(simulator=simulator, records=tuple(records))


def run(simulator: Simulator, index: int) -> Clip:
    """Clip `index`; the last one is kept."""
    with _ONE_AT_A_TIME:
        return _run(simulator, index)


@functools.lru_cache(maxsize=1)
def _run(simulator: Simulator, index: int) -> Clip:
    return simulator.simulate(index)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedSimulator:
    """See `datasets.OpenedSource`."""

    simulator: Simulator
    records: tuple[Record, ...]
    broken: tuple[Broken, ...] = ()

    def read(
        self, index: int, start: int, count: int, *, fps: Rate | None = None
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Up to `count` frames from `start` on; at another rate, those shown at its times."""
        frames = run(self.simulator, index).frames
        native = self.simulator.fps
        total = len(frames) if fps is None else frames_at_rate(len(frames), native, fps=fps)
        numbers = np.arange(start, min(start + count, total))
        # Without the small number rounding would now and then show the frame before.
        shown = (numbers * (1.0 if fps is None else native / float(fps)) + 1e-6).astype(int)
        return frames[np.minimum(shown, len(frames) - 1)]

    def state(self, index: int) -> Any:
        """The recorded true state of clip `index`: a dataclass of the simulator's own file."""
        return run(self.simulator, index).state


def step_of(frames: int) -> np.ndarray:
    """Which step each frame shows, where frame 0 is the start and each step lasts two frames."""
    return (np.arange(frames) + 1) // FRAMES_PER_STEP
