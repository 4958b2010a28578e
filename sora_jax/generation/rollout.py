"""Clips longer than a model was trained on: hop by hop, each given the last latents so far.

Latents are handed on as they are: a way through pixels and the encoder at each hop would shift
colours a little, every time. The first hops hold all that there is from the clip's beginning. A
later one holds the last few latents; these are from the middle of a clip, and the first place of a
canvas stands for a single frame, so they lie behind a first latent that is made anew and thrown
away. What is given is shown to the model with a little noise, without which small faults grow from
hop to hop (SkyReels-V2, arXiv 2504.13074, takes 20 steps of 1,000).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from sora_jax.arrays import Key, Size
from sora_jax.diffusion.samplers import fold
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.model import GenerativeModel, Sampling, Tick

CONTEXT = 3
"""Latents that a hop from the middle of a clip is given."""

HELD = 0.02
"""The diffusion time at which it is shown them."""

Latents = Float[np.ndarray, "batch frames height width channels"]


class Hop(NamedTuple):
    """One sampling of `length` latent frames: the last `given` ones at `at`, `new` ones kept."""

    length: int
    given: int
    at: int
    new: int


def plan_hops(past: int, count: int, *, window: int | None) -> list[Hop]:
    """Returns how `count` latents follow on `past` ones that begin a clip.

    window  the most latents that the model was trained on together; None if that is not known, and
            then all is one hop. Raises ValueError for a model that was trained on images alone.
    """
    if window is None or past + count <= window:
        return [Hop(length=past + count, given=past, at=0, new=count)]
    context = min(CONTEXT, (window - 1) // 2)
    if context < 1:
        raise ValueError(
            f"this model was trained on clips of {window} latent frames, too few to go on from"
        )
    hops = []
    while count > 0:
        if past <= context + 1:
            hop = Hop(length=window, given=past, at=0, new=window - past)
        else:
            hop = Hop(length=window, given=context, at=1, new=window - 1 - context)
        hop = hop._replace(new=min(hop.new, count))
        hops.append(hop)
        past, count = past + hop.new, count - hop.new
    return hops


def roll(
    model: GenerativeModel,
    prompts: list[str],
    how: Sampling,
    hops: list[Hop],
    *,
    size: tuple[int, int],
    keys: Key,
    past: Latents | None = None,
    tick: Tick | None = None,
    kept: Kept | None = None,
) -> Iterator[Latents]:
    """Returns the new latents of each hop, of `size` (height, width) latents.

    keys   of the rows; each hop folds them with its number, but for the first.
    past   the latents that the first hop follows on.
    kept   where finished hops are looked for and written.
    """
    for number, hop in enumerate(hops):
        new = kept.read(number) if kept else None
        if new is None:
            canvas = Canvas.blank(
                Size(hop.length, *size), model.vae.latent_channels, batch=len(prompts)
            )
            if past is not None and hop.given:
                canvas = canvas.put(past[:, -hop.given :], at=hop.at)
            settings = how
            if hop.at:
                settings = dataclasses.replace(how, held=max(how.held, HELD))
            own = fold(keys, number) if number else keys
            begin = hop.at + hop.given
            latent = model.sample(canvas, prompts, settings, keys=own, tick=tick)
            new = np.asarray(latent[:, begin : begin + hop.new])
            if kept:
                kept.write(number, new)
        past = new if past is None else np.concatenate([past, new], axis=1)[:, -hop.length :]
        yield new


@dataclasses.dataclass(frozen=True)
class Kept:
    """The latents of finished hops in a folder, so that a clip that was stopped is gone on with."""

    folder: epath.Path

    @classmethod
    def open(cls, folder: epath.PathLike, settings: dict[str, str]) -> Kept:
        """Opens a folder, made if need be. Raises ValueError if it holds parts of another clip."""
        path = epath.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        record, text = path / "settings.json", json.dumps(settings, indent=1)
        if record.exists() and record.read_text() != text:
            raise ValueError(f"{path} holds the parts of another clip; remove it, or finish that")
        record.write_text(text)
        return cls(path)

    def read(self, number: int) -> Latents | None:
        """Returns the latents of a hop, None if it was not finished."""
        path = self._path(number)
        if not path.exists():
            return None
        with path.open("rb") as file:
            return np.load(file)

    def write(self, number: int, latents: Latents) -> None:
        path = self._path(number)
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as file:
            np.save(file, latents)
        temporary.rename(path)

    def remove(self) -> None:
        self.folder.rmtree()

    def _path(self, number: int) -> epath.Path:
        return self.folder / f"hop_{number:05d}.npy"
