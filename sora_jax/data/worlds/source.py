"""The worlds as a source of clips: drawn when they are read, each a function of (seed, index)."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sora_jax.arrays import Size
from sora_jax.data.datasets import Broken, Record
from sora_jax.data.video import Rate, frames_at_rate
from sora_jax.data.worlds.balls import Balls
from sora_jax.data.worlds.cuts import Cuts
from sora_jax.data.worlds.eater import Eater
from sora_jax.data.worlds.game import Game
from sora_jax.data.worlds.occluder import Occluder
from sora_jax.data.worlds.orbit import Orbit
from sora_jax.data.worlds.painter import Painter
from sora_jax.data.worlds.shatter import Shatter
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.data.worlds.world import LEAST_SIDE, Setting, World, stream

ALL: tuple[World, ...] = (
    Sprites(),
    Balls(),
    Occluder(),
    Orbit(),
    Cuts(),
    Painter(),
    Eater(),
    Shatter(),
    Game(),
)
"""Every procedural world, as it is by default."""

# What random numbers are for; part of their key. Changing one changes every clip.
_CHOICE, _SCENE, _CAPTIONS = range(3)
# From here on processes of their own, which take seconds to start, are worth it.
_MANY = 20_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worlds:
    """A source of `clips` clips from a mixture of worlds.

    worlds   those that are mixed.
    shares   how many of the clips are of each world, in proportion; None for equal shares.
    sizes    frames, height and width of the clips, each as likely. One of one frame is an image.
    fps      frames per second.
    """

    clips: int = 1000
    worlds: tuple[World, ...] = ALL
    shares: tuple[float, ...] | None = None
    sizes: tuple[Size, ...] = (Size(17, 64, 64),)
    fps: float = 8.0
    seed: int = 0

    def open(self) -> OpenedWorlds:
        """Writes the manifest. Raises ValueError for what cannot be drawn, or a mixture of nothing.

        Of many clips processes write it, which a script must expect: what it does stands below
        `if __name__ == "__main__":`; a RuntimeError says so where it does not.
        """
        shares = self.shares
        if not self.worlds or not self.sizes:
            raise ValueError("worlds and sizes must not be empty: give at least one of each")
        if shares is not None and (
            len(shares) != len(self.worlds) or min(shares) < 0 or not sum(shares) > 0
        ):
            raise ValueError(
                f"shares is {shares} for {len(self.worlds)} worlds; give a number for each, none "
                "of them negative and not all of them 0"
            )
        for size in self.sizes:
            if size.frames < 1 or min(size[1:]) < LEAST_SIDE:
                raise ValueError(
                    f"sizes has {size}; worlds are drawn with a frame or more, of {LEAST_SIDE} "
                    "pixels a side at least"
                )
        if self.clips < 1 or self.seed < 0 or not self.fps > 0:
            raise ValueError(
                f"clips={self.clips}, seed={self.seed}, fps={self.fps}: give one clip or more, a "
                "seed from 0 on, and a rate above 0"
            )
        return OpenedWorlds(source=self, records=tuple(self._records()))

    def _records(self) -> Iterable[Record]:
        """All of the manifest; scenes take a millisecond each, so that of many all cores draw."""
        if self.clips < _MANY:
            return map(self.record, range(self.clips))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
            try:
                return list(pool.map(self.record, range(self.clips), chunksize=256))
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"the processes that draw {self.clips} scenes cannot begin; a script that "
                    'opens so many must do so below `if __name__ == "__main__":`'
                ) from error

    def drawn(self, index: int) -> Drawn:
        """Clip `index`: its world, its size and its scene."""
        rng = stream(self.seed, index, _CHOICE)
        shares = np.ones(len(self.worlds)) if self.shares is None else np.asarray(self.shares)
        world = self.worlds[int(rng.choice(len(shares), p=shares / shares.sum()))]
        size = self.sizes[int(rng.integers(len(self.sizes)))]
        tag = zlib.crc32(world.name.encode())
        seconds = size.frames / self.fps if size.frames > 1 else 0.0
        setting = Setting.of(height=size.height, width=size.width, seconds=seconds)
        return Drawn(
            world=world,
            size=size,
            scene=world.scene(stream(self.seed, index, _SCENE, tag), setting),
        )

    def record(self, index: int) -> Record:
        """Clip `index` as the manifest has it."""
        drawn = self.drawn(index)
        frames, height, width = drawn.size
        return Record(
            name=f"{drawn.world.name}/{self.seed}/{index:08d}",
            frames=frames,
            height=height,
            width=width,
            fps=self.fps if frames > 1 else 0.0,
            captions=drawn.world.captions(drawn.scene, stream(self.seed, index, _CAPTIONS)),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """What one clip shows."""

    world: World
    size: Size
    scene: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedWorlds:
    """See `datasets.OpenedSource`."""

    source: Worlds
    records: tuple[Record, ...]
    broken: tuple[Broken, ...] = ()

    def read(
        self, index: int, start: int, count: int, *, fps: Rate | None = None
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Up to `count` frames from `start` on, drawn for their times at the rate `fps`."""
        drawn, rate = self.source.drawn(index), self.source.fps
        frames, height, width = drawn.size
        if fps is not None:
            frames, rate = frames_at_rate(frames, rate, fps=fps), fps
        times = np.arange(start, min(start + count, frames)) / rate
        return drawn.world.render(drawn.scene, times, height=height, width=width)
