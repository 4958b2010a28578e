"""From what a user has to what he wants: each task is a canvas, sampled and decoded.

Given frames appear in the result as the autoencoder gives them back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.arrays import Size
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.clip import Clip
from sora_jax.generation.inputs import Frames, Given, fit, like, read_frames
from sora_jax.generation.model import GenerativeModel, Sampling, Settings
from sora_jax.generation.pixels import Codec
from sora_jax.generation.rollout import plan_hops, roll

log = logging.getLogger("sora_jax")

LEAST = 2
"""Latents on either side of a gap: with one alone nobody could tell how things move."""


class Box(NamedTuple):
    """A rectangle of pixels: from `top` and `left` to before `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int


class Tasks(GenerativeModel):
    """The tasks that begin with a video or an image.

    Each of these is a file, an array uint8 [frames, height, width, 3], or a `Clip`; it is read at
    the model's rate. `height` and `width` bound the result, which keeps the aspect ratio of what
    was given; without them it keeps its size. `settings` are `model.Settings`.

    All raise ValueError for impossible settings, VideoError for a file that cannot be read, and
    MemoryError, with the estimate, for a size that does not fit.
    """

    def animate(
        self,
        image: Given,
        prompt: str = "",
        *,
        frames: int = 17,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns a clip that begins with an image; of a video, with its first frame."""
        how = Sampling.of(**settings)
        still = fit(
            read_frames(image, fps=self.fps, what="image"), height=height, width=width, what="image"
        )
        if len(still) > 1:
            log.info("image: the first of %d frames is taken", len(still))
        codec, how = self._ready(prompt, Size(frames, *still.shape[1:3]), how)
        video = self._followed(codec, codec.encode(still[:1]), prompt, frames - 1, how)
        return self.clip(_cut(video, 0, frames, still), how, task="animate", prompt=prompt)

    def extend(
        self,
        video: Given,
        prompt: str = "",
        *,
        frames: int = 16,
        direction: str = "forward",
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns the whole clip and so many new frames, after it (forward) or before (backward).

        Clips with different seeds that are extended backward are several beginnings that share one
        ending.
        """
        how = Sampling.of(**settings)
        if direction not in ("forward", "backward"):
            raise ValueError(f"direction is {direction!r}; give forward or backward")
        if frames < 1:
            raise ValueError(f"frames={frames}: give at least one new frame")
        old = fit(read_frames(video, fps=self.fps), height=height, width=width)
        size = Size(len(old) + frames, *old.shape[1:3])
        codec, how = self._ready(prompt, size, how)
        if direction == "forward":
            latent, before = codec.encode_ending(old)
            made = self._followed(codec, latent, prompt, frames, how)
        else:
            made = self._preceded(codec, codec.encode_lone(old), prompt, frames, how)
            before = self._new_before(frames) - frames
        told = {"task": f"extend {direction}", "prompt": prompt, "new frames": frames}
        return self.clip(_cut(made, before, size.frames, old), how, **told)

    def loop(
        self,
        video: Given | None = None,
        *,
        prompt: str = "",
        frames: int = 16,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns a clip whose end leads into its beginning.

        Of a video: all of it, and `frames` that lead from its end back to its beginning. Of a
        prompt alone: `frames` in all, of 64 x 64 pixels unless said otherwise. In both cases as
        many as fill whole latents.
        """
        how = Sampling.of(**settings)
        step = self.vae.factor.frames
        if frames < step:
            raise ValueError(f"frames={frames}: give at least the {step} of one latent")
        told = {"task": "loop", "prompt": prompt}
        if video is None:
            size = Size(_rounded(frames, step, "the loop"), height or 64, width or 64)
            codec, how = self._ready(prompt, size, how, given=False)
            latent = self._ring(prompt, size, how)
            return self.clip(codec.decode_ring(latent)[:, : size.height, : size.width], how, **told)
        old = fit(read_frames(video, fps=self.fps), height=height, width=width)
        whole = len(old) // step
        if whole < LEAST:
            raise ValueError(
                f"the video has {len(old)} frames; a loop needs at least {LEAST * step} of them"
            )
        if rest := len(old) % step:
            log.info("video: its last %d frames fill no latent and are made anew", rest)
        gap = _rounded(frames + rest, step, "the way back")
        codec, how = self._ready(prompt, Size(len(old) + gap, *old.shape[1:3]), how)
        latent = codec.encode_lone(old[: whole * step])
        bridge = self._bridge(latent, latent, prompt, gap // step, how)
        made = codec.decode_ring(np.concatenate([latent, bridge], axis=1))
        return self.clip(_cut(made, 0, len(made), old), how, **told)

    def edit(
        self,
        video: Given,
        prompt: str,
        *,
        strength: float | Sequence[float] = 0.6,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns the clip changed towards a prompt (SDEdit, arXiv 2108.01073).

        strength  the diffusion time that the clip is noised to, 0 (as it is) to 1 (nothing of it);
                  or one for each of some moments evenly spread over the clip, with times between.
        """
        how = Sampling.of(**settings)
        levels = np.atleast_1d(np.asarray(strength, np.float32))
        if levels.ndim > 1 or not np.all((levels >= 0) & (levels <= 1)):
            raise ValueError(f"strength={strength}: give numbers in 0..1")
        old = fit(read_frames(video, fps=self.fps), height=height, width=width)
        codec, how = self._ready(prompt, Size(*old.shape[:3]), how)
        latent = codec.encode(old)
        moments = np.linspace(0, 1, len(levels)), np.linspace(0, 1, latent.shape[1])
        level = np.interp(moments[1], moments[0], levels)[:, None, None]
        canvas = _blank_like(latent, latent.shape[1]).put(latent, at=0, level=level)
        made = self._sampled(canvas, prompt, how)
        told = {"task": "edit", "prompt": prompt, "strength": strength}
        return self.clip(_cut(codec.decode(made)[0], 0, len(old), old), how, **told)

    def connect(
        self,
        first: Given,
        second: Given,
        *,
        prompt: str = "",
        frames: int = 16,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns the first clip, so many frames that lead over to the second, and the second.

        As many as fill whole latents. The second clip is made the size of the first.
        """
        how = Sampling.of(**settings)
        step = self.vae.factor.frames
        if frames < step:
            raise ValueError(f"frames={frames}: give at least the {step} of one latent")
        a = fit(
            read_frames(first, fps=self.fps, what="first"), height=height, width=width, what="first"
        )
        b = like(read_frames(second, fps=self.fps, what="second"), a, what="second")
        gap = _rounded(frames, step, "what connects them")
        size = Size(len(a) + gap + len(b), *a.shape[1:3])
        codec, how = self._ready(prompt, size, how)
        (before, skipped), after = codec.encode_ending(a), codec.encode_lone(b)
        bridge = self._bridge(before, after, prompt, gap // step, how, begins=True)
        made = codec.decode(np.concatenate([before, bridge, after], axis=1))[0]
        told = {"task": "connect", "prompt": prompt, "new frames": gap}
        return self.clip(_cut(made, skipped, size.frames, a), how, **told)

    def retake(
        self,
        video: Given,
        prompt: str,
        *,
        span: tuple[int, int] | None = None,
        box: tuple[int, int, int, int] | None = None,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns the clip with a part of it made anew.

        span  the frames of that part, from the first to before the last; all by default.
        box   its top, left, bottom and right in pixels; the whole picture by default.

        The part is enlarged to whole latents. The pixels of a latent outside of it are as given.
        """
        how = Sampling.of(**settings)
        old = fit(read_frames(video, fps=self.fps), height=height, width=width)
        span = span or (0, len(old))
        rectangle = Box(*(box or (0, 0, *old.shape[1:3])))
        _check_part(old, span, rectangle)
        codec, how = self._ready(prompt, Size(*old.shape[:3]), how)
        asked = self._places(Size(*old.shape[:3]), span, rectangle)
        latent = codec.encode(self._without(old, asked))
        canvas = _blank_like(latent, latent.shape[1]).put(latent, at=0, level=asked.astype(float))
        made = self._sampled(canvas, prompt, how)
        told = {"task": "retake", "prompt": prompt, "span": span, "box": tuple(rectangle)}
        return self.clip(_cut(codec.decode(made)[0], 0, len(old), old), how, **told)

    def _ready(
        self, prompt: str, size: Size, how: Sampling, *, given: bool = True
    ) -> tuple[Codec, Sampling]:
        """The autoencoder at work and the settings that apply; see `prepare`."""
        longest = self.domain.frames or size.frames
        together = size._replace(frames=min(size.frames, longest))
        how, need = self.prepare([prompt], together, how, given=given)
        return self.codec(need.tile), how

    def _sampled(self, canvas: Canvas, prompt: str, how: Sampling, *, closed: bool = False):
        keys = jax.random.key(how.seed)[None]
        tick = self.ticks(1, how)
        return np.asarray(self.sample(canvas, [prompt], how, keys=keys, closed=closed, tick=tick))

    def _followed(
        self, codec: Codec, latent: np.ndarray, prompt: str, frames: int, how: Sampling
    ) -> Frames:
        """The frames of latents and of at least `frames` more that follow them."""
        count = -(-frames // self.vae.factor.frames)
        hops = plan_hops(latent.shape[1], count, window=self.window)
        new = roll(
            self,
            [prompt],
            how,
            hops,
            size=latent.shape[2:4],
            keys=jax.random.key(how.seed)[None],
            past=latent,
            tick=self.ticks(len(hops), how),
        )
        return codec.decode(np.concatenate([latent, *new], axis=1))[0]

    def _new_before(self, frames: int) -> int:
        """The frames that are made where `frames` before a clip are asked for: the first latent
        stands for one."""
        return self.vae.pixel_size(self.vae.latent_size(Size(frames, 1, 1))).frames

    def _preceded(
        self, codec: Codec, latent: np.ndarray, prompt: str, frames: int, how: Sampling
    ) -> Frames:
        """The frames of latents and of `_new_before(frames)` that come before them."""
        count = self.vae.latent_size(Size(frames, 1, 1)).frames
        window = self.window or count + latent.shape[1]
        if window < min(3, count + latent.shape[1]):
            raise ValueError(
                f"this model was trained on clips of {window} latent frames, too few to go on from"
            )
        beginnings: list[np.ndarray] = []
        after = latent
        number, left = 0, count
        fewest = min(LEAST, max(1, window - 2))
        hops = 1 if count <= window - fewest else -(-(count - 1) // (window - 1 - fewest))
        tick = self.ticks(hops, how)
        while left:
            # As much of what follows as there is room for.
            new = min(left, window - min(fewest, after.shape[1]))
            shown = after[:, : window - new]
            canvas = _blank_like(latent, new + shown.shape[1]).put(shown, at=new)
            keys = jax.random.fold_in(jax.random.key(how.seed), number)[None]
            made = np.asarray(self.sample(canvas, [prompt], how, keys=keys, tick=tick))
            # But for the last time, the first latent stands for a single frame and is thrown away.
            kept = made[:, :new] if new == left else made[:, 1:new]
            beginnings.insert(0, kept)
            after = np.concatenate([kept, after], axis=1)
            number, left = number + 1, left - kept.shape[1]
        return codec.decode(np.concatenate([*beginnings, latent], axis=1))[0]

    def _bridge(
        self,
        before: np.ndarray,
        after: np.ndarray,
        prompt: str,
        count: int,
        how: Sampling,
        *,
        begins: bool = False,
    ) -> np.ndarray:
        """`count` latents that lead from the end of some to the beginning of others.

        `begins` says that the first of `before` is the first of a clip.
        """
        window = self.window or 1 + before.shape[1] + count + after.shape[1]
        room = window - count - 1
        if room < min(2 * LEAST, before.shape[1] + after.shape[1]):
            step = self.vae.factor.frames
            raise ValueError(
                f"{count * step} frames between two clips are more than this model was trained to "
                f"see with both of them; give at most {step * max(0, window - 1 - 2 * LEAST)}"
            )
        tail = before[:, -(room - min(room // 2, after.shape[1])) :]
        head = after[:, : room - tail.shape[1]]
        # Latents from the middle of a clip lie behind a first one, which is thrown away.
        at = 0 if begins and tail.shape[1] == before.shape[1] else 1
        gap = at + tail.shape[1]
        canvas = _blank_like(before, gap + count + head.shape[1])
        canvas = canvas.put(tail, at=at).put(head, at=gap + count)
        return self._sampled(canvas, prompt, how)[:, gap : gap + count]

    def _ring(self, prompt: str, size: Size, how: Sampling) -> np.ndarray:
        """Latents that close to a ring, of a prompt alone."""
        count = size.frames // self.vae.factor.frames
        grid = self.vae.latent_size(size)._replace(frames=count)
        canvas = Canvas.blank(grid, self.vae.latent_channels)
        return self._sampled(canvas, prompt, how, closed=True)

    def _places(self, size: Size, span: tuple[int, int], box: Box) -> np.ndarray:
        """Which places of the latent grid hold a pixel of a part."""
        factor = self.vae.factor
        # The first latent is frame 0; latent k ends with frame k times the factor.
        latents = -(-np.arange(size.frames) // factor.frames)
        inside = np.zeros(self.vae.latent_size(size), bool)
        rows = slice(box.top // factor.height, -(-box.bottom // factor.height))
        columns = slice(box.left // factor.width, -(-box.right // factor.width))
        for latent in np.unique(latents[slice(*span)]):
            inside[latent, rows, columns] = True
        return inside

    def _without(self, frames: Frames, asked: np.ndarray) -> Frames:
        """Frames from which whole latent frames that are asked for are taken out, so that the
        encoder does not see them in what follows."""
        given = ~np.all(asked, axis=(1, 2), keepdims=True)[..., 0].T
        if given.all() or not given.any():
            return frames
        return np.asarray(self.vae.lone(jnp.asarray(frames[None]), jnp.asarray(given)))[0]


def _blank_like(latent: np.ndarray, frames: int) -> Canvas:
    return Canvas.blank(Size(frames, *latent.shape[2:4]), latent.shape[-1])


def _cut(made: np.ndarray, start: int, count: int, like: np.ndarray) -> np.ndarray:
    """`count` frames from `start` on, of the height and width of others."""
    return made[start : start + count, : like.shape[1], : like.shape[2]]


def _rounded(frames: int, step: int, what: str) -> int:
    """Frames rounded up to whole latents, which is said."""
    whole = -(-frames // step) * step
    if whole != frames:
        log.info("%s: made %d frames for %d, as a latent stands for %d", what, whole, frames, step)
    return whole


def _check_part(frames: Frames, span: tuple[int, int], box: Box) -> None:
    count, height, width = frames.shape[:3]
    if not 0 <= span[0] < span[1] <= count:
        raise ValueError(f"span {span[0]} to {span[1]} does not lie in a clip of {count} frames")
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise ValueError(
            f"box {box.top}, {box.left}, {box.bottom}, {box.right} (top, left, bottom, right) does "
            f"not lie in a picture of {height} x {width} pixels"
        )
