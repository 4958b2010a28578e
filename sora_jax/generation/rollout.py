"""Clips longer than a model was trained on: hop by hop, each given the last latents so far.

A long canvas, such as that of a clip to be edited, is made in the same way, window by window.

Latents are handed on as they are: a way through pixels and the encoder at each hop would shift
colours a little, every time. The first hops hold all that there is from the clip's beginning. A
later one holds the last few latents; these are from the middle of a clip, and the first place of a
canvas stands for a single frame, so they lie behind a first latent that is made anew and thrown
away. What is given is shown to the model with a little noise, without which small faults grow from
hop to hop (SkyReels-V2, arXiv 2504.13074, takes 20 steps of 1,000).
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float

from sora_jax.arrays import HostOrDevice, Key, Size
from sora_jax.diffusion.samplers import fold
from sora_jax.files import write_whole
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.model import GenerativeModel, Tick, start_noise
from sora_jax.generation.settings import Sampling

log = logging.getLogger("sora_jax")

HISTORY = 3
"""Latents that a hop from the middle of a clip is given."""

GIVEN_NOISE = 0.02
"""The least diffusion time at which it is shown them."""

LEAST = 2
"""Latents on either side of a gap: with one alone nobody could tell how things move."""

Latents = Float[np.ndarray, "batch _ height width channels"]


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
    history, hops = _history(window), []
    while count > 0:
        if past <= history + 1:
            hop = Hop(length=window, given=past, at=0, new=window - past)
        else:
            hop = Hop(length=window, given=history, at=1, new=window - 1 - history)
        hop = hop._replace(new=min(hop.new, count))
        hops.append(hop)
        past, count = past + hop.new, count - hop.new
    return hops


class Window(NamedTuple):
    """One sampling of a canvas, from latent frame `start` on; those of `new` to `stop` are kept."""

    start: int
    new: int
    stop: int


def plan_windows(asked: list[bool], *, window: int) -> list[Window]:
    """Returns how a canvas of more latent frames than a window is made, `asked` of it anew.

    What is asked for is made after up to `HISTORY` latents, and together with what follows it where
    there is room for that. Raises ValueError for a model that was trained on images alone.
    """
    history, frames = _history(window), len(asked)
    windows, new = [], 0
    while any(asked[new:]):
        new = asked.index(True, new)
        stop = [*asked, False].index(False, new)
        beyond = min(stop + LEAST, frames)
        start, end = 0, window
        if new > history + 1:
            room = window - 1
            start = min(new - history, frames - room)
            if beyond - room <= new - min(LEAST, history):
                start = max(start, beyond - room)
            end = start + room
        if beyond > end:
            # A part is left for the next window, which sees what follows.
            stop = max(new + 1, min(end, stop - 1))
        windows.append(Window(start=start, new=new, stop=stop))
        new = stop
    return windows


def in_windows(
    model: GenerativeModel,
    canvas: Canvas,
    prompts: list[str],
    how: Sampling,
    windows: list[Window],
    *,
    window: int,
    keys: Key,
    noise: HostOrDevice | None = None,
    tick: Tick | None = None,
) -> Latents:
    """Returns the latents of a canvas, made in windows of `window` latents.

    To each, what those before it made is given, as what was given from the beginning is. One that
    does not begin the canvas has a first latent of its own, which is thrown away.

    keys   of the rows; each window folds them with its number, but for the first.
    noise  what to begin with, of the whole canvas; by default that of the keys.
    """
    noise = np.asarray(start_noise(keys, canvas.reference.shape) if noise is None else noise)
    made, start = np.array(canvas.reference), np.asarray(canvas.start)
    level = np.broadcast_to(start, (*made.shape[:2], *start.shape[2:])).copy()
    for number, (begin, new, stop) in enumerate(windows):
        own = fold(keys, number) if number else keys
        before = int(begin > 0)
        shown = slice(begin, begin + window - before)
        reference, start, fresh = made[:, shown], level[:, shown], noise[:, shown]
        if before:
            first = np.zeros_like(reference[:, :1])
            reference = np.concatenate([first, reference], axis=1)
            start = np.concatenate([np.ones_like(start[:, :1]), start], axis=1)
            fresh = np.concatenate([start_noise(own, first.shape), fresh], axis=1)
        part = model.sample(
            Canvas(reference=jnp.asarray(reference), start=jnp.asarray(start)),
            prompts,
            loosened(how) if before else how,
            keys=own,
            noise=jnp.asarray(fresh),
            tick=tick,
        )
        kept = slice(before + new - begin, before + stop - begin)
        made[:, new:stop], level[:, new:stop] = part[:, kept], 0
    return made


def loosened(how: Sampling) -> Sampling:
    """Returns settings that show a little noise on what is given, against faults that grow."""
    return dataclasses.replace(how, given_noise=max(how.given_noise, GIVEN_NOISE))


def too_short(window: int) -> ValueError:
    """The error for a window that leaves no room for what a hop is given and makes."""
    return ValueError(
        f"this model was trained on clips of {window} latent frames, too few to go on from: ask it "
        "for clips of so many at most, of nothing that is given"
    )


def _history(window: int) -> int:
    """How many latents a hop is given. Raises ValueError for a window without room for any."""
    if window < 3:
        raise too_short(window)
    return min(HISTORY, (window - 1) // 2)


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
            # What the first is given has no such faults: it was encoded.
            settings = loosened(how) if number and hop.at else how
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
        """Opens a folder, made if need be, for the clip of some settings, its record.

        Hops without a record are removed, as nobody knows of what they are. Raises ValueError if
        the folder holds parts of another clip.
        """
        path = epath.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        record, text = path / "settings.json", json.dumps(settings, indent=1)
        if not record.exists():
            for hop in path.glob("hop_*"):
                log.warning("%s: removed, as no record says of which clip it is", hop)
                hop.unlink()
            write_whole(record, text.encode())
        elif record.read_text() != text:
            other = _difference(record.read_text(), settings)
            raise ValueError(
                f"{path} holds the parts of another clip ({other}); remove it, or finish that"
            )
        return cls(path)

    def read(self, number: int) -> Latents | None:
        """Returns the latents of a hop, None if it was not finished."""
        path = self._path(number)
        if not path.exists():
            return None
        with path.open("rb") as file:
            return np.load(file)

    def write(self, number: int, latents: Latents) -> None:
        data = io.BytesIO()
        np.save(data, latents)
        write_whole(self._path(number), data.getvalue())

    def remove(self) -> None:
        self.folder.rmtree()

    def _path(self, number: int) -> epath.Path:
        return self.folder / f"hop_{number:05d}.npy"


def _difference(kept: str, settings: dict[str, str]) -> str:
    """What differs between a record and settings, in words."""
    try:
        old = json.loads(kept)
    except ValueError:
        return "its record cannot be read"
    return ", ".join(
        f"{name} {old.get(name, 'unknown')}, not {settings.get(name, 'unknown')}"
        for name in dict.fromkeys((*old, *settings))
        if old.get(name) != settings.get(name)
    )
