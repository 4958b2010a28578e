"""From what a user has to what he wants: each task is a canvas, sampled and decoded.

Given frames appear in the result as the autoencoder gives them back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np

from sora_jax.arrays import Size
from sora_jax.generation.canvas import RING_CONTEXT
from sora_jax.generation.clip import Clip
from sora_jax.generation.gaps import BETWEEN, Gaps, blank_like
from sora_jax.generation.inputs import Frames, Given, read_frames
from sora_jax.generation.part import Part, check_part
from sora_jax.generation.pixels import PREROLL, Codec
from sora_jax.generation.rollout import LEAST
from sora_jax.generation.settings import GUIDANCE, Sampling, Settings, spread, strengths

log = logging.getLogger("sora_jax")


class Tasks(Gaps):
    """The tasks that begin with a video or an image.

    Each of these is a file, an array uint8 [frames, height, width, 3], or a `Clip`; it is read at
    the model's rate. `height` and `width` bound the result, which keeps the aspect ratio of what
    was given; without them it keeps its size. `settings` are `settings.Settings`.

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
        still = read_frames(image, fps=self.fps, what="image", count=1, height=height, width=width)
        codec, how = self._ready(prompt, Size(frames, *still.shape[1:3]), how, encodes=1)
        made = codec.decode(self.followed(codec.encode(still), prompt, frames - 1, how))[0]
        return self.clip(_cut(made, 0, frames, still), how, task="animate", prompt=prompt)

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
        old = read_frames(video, fps=self.fps, height=height, width=width)
        size = Size(len(old) + frames, *old.shape[1:3])
        codec, how = self._ready(prompt, size, how, encodes=len(old) + self.standstill)
        if direction == "forward":
            latent, before = codec.encode_ending(old)
            latent = self.followed(latent, prompt, frames, how)
        else:
            latent, before = self.preceded(codec.encode_lone(old), prompt, frames, how)
        made = codec.decode(latent)[0]
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

        Of a video: its frames, and `frames` that lead from its end back to its beginning. Its last
        frames, up to three, fill no latent: they are made anew, as part of the way back, as far as
        the model sees so much at once. Of a prompt alone: `frames` in all, of 64 x 64 pixels unless
        said otherwise. In both cases as many as fill whole latents.
        """
        how = Sampling.of(own=GUIDANCE if video is None else BETWEEN, **settings)
        step = self.vae.factor.frames
        told = {"task": "loop", "prompt": prompt}
        if video is None:
            count = self.whole(frames, "the loop", most=self.most_around)
            size = Size(count, *(64 if side is None else side for side in (height, width)))
            codec, how = self._ready(prompt, size, how, given=False, more=RING_CONTEXT, closed=True)
            latent = self.ring(prompt, size, how)
            return self.clip(codec.decode_ring(latent)[:, : size.height, : size.width], how, **told)
        old = read_frames(video, fps=self.fps, height=height, width=width)
        whole, rest = divmod(len(old), step)
        if whole < LEAST:
            raise ValueError(
                f"the video has {len(old)} frames; a loop needs at least {LEAST * step} of them"
            )
        if rest:
            log.warning(
                "video: the last %d of %d frames fill no latent and are made anew", rest, len(old)
            )
        most = self.most_between(2 * whole)
        gap = self.whole(frames, "the way back", most=most, lost=rest)
        old = old[: whole * step]
        codec, how = self._ready(
            prompt,
            Size(len(old) + gap, *old.shape[1:3]),
            how,
            encodes=len(old) + self.standstill,
            # The clip on both sides of the way back.
            more=whole,
            closed=True,
        )
        latent = codec.encode_lone(old)
        bridge = self.bridge(latent, latent, prompt, gap // step, how)
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
        levels = strengths(strength)
        old = read_frames(video, fps=self.fps, height=height, width=width)
        size = Size(*old.shape[:3])
        count = self.vae.latent_size(size).frames
        level = spread(levels, count)
        given = not level.all() or self.in_parts(count)
        codec, how = self._ready(prompt, size, how, given=given, encodes=len(old))
        latent = codec.encode(old)
        canvas = blank_like(latent, latent.shape[1]).put(latent, at=0, level=level)
        made = self.sampled(canvas, prompt, how)
        told = {"task": "edit", "prompt": prompt, "strength": strength}
        return self.clip(_cut(codec.decode(made)[0], 0, len(old), old), how, **told)

    def connect(
        self,
        first: Given,
        second: Given,
        *,
        prompt: str = "",
        frames: int = 16,
        strength: float | Sequence[float] = 0.0,
        height: int | None = None,
        width: int | None = None,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns the first clip, so many frames that lead over to the second, and the second.

        As many as fill whole latents; with a strength above 0 no more than the model sees at once.
        The second clip is made the size of the first.

        By default (strength 0) both clips go on, and one fades into the other while both move: the
        model makes how the first goes on and how the second began, but not the transition, which is
        a cross-fade of pixels.

        strength  how much of that cross-fade the model makes anew, as in `edit`: 0 (nothing) to 1
                  (all, from the clips alone). Or one for each of some moments evenly spread over
                  the new latents, from the first to the last, with strengths between: (0, 1, 0) is
                  a ramp in which the model makes the middle of the transition. A model that was not
                  trained on such changes makes them all at once at 1, or between 0 and 1 something
                  that it does not know.
        """
        how = Sampling.of(own=BETWEEN, **settings)
        levels = strengths(strength)
        step = self.vae.factor.frames
        a = read_frames(first, fps=self.fps, what="first", height=height, width=width)
        b = read_frames(second, fps=self.fps, what="second", stretched=a.shape[1:3])
        given = self.vae.latent_size(Size(len(a), 1, 1)).frames + -(-len(b) // step)
        # How both clips go on is made hop by hop; what the model leads over it must see at once.
        most = self.most_between(given) if levels.any() else None
        gap = self.whole(frames, "what connects them", most=most)
        level = spread(levels, gap // step)
        size = Size(len(a) + gap + len(b), *a.shape[1:3])
        encodes = len(a) + len(b) + self.standstill
        fades = bool(levels.min() < 1)
        if fades:
            encodes += len(a) + gap
        codec, how = self._ready(prompt, size, how, encodes=encodes, more=1)
        (before, skipped), after = codec.encode_ending(a), codec.encode_lone(b)
        over = None
        if fades:
            onward = codec.decode(self.followed(before, prompt, gap, how))[0][skipped + len(a) :]
            latent, early = self.preceded(after, prompt, gap, how)
            back = codec.decode(latent)[0][early:]
            faded = _faded(onward[:gap, : size.height, : size.width], back[:gap])
            over = codec.encode_ending(np.concatenate([a, faded]))[0][:, -gap // step :]
        bridge = self.bridge(
            before, after, prompt, gap // step, how, begins=True, over=over, level=level
        )
        made = codec.decode(np.concatenate([before, bridge, after], axis=1))[0]
        told = {"task": "connect", "prompt": prompt, "new frames": gap, "strength": strength}
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
        """Returns the clip with a part of it made anew: a span, a box, or a box within a span.

        span  the frames of that part, from the first to before the last, counted from 0 at the
              model's rate, `fps`; with a box alone, all.
        box   its top, left, bottom and right in pixels, of the picture that `height` and `width`
              leave; with a span alone, the whole picture.

        The part is enlarged to whole latents, and to whole patches where the model takes several
        latents for one token, which is logged. Outside of it the latents are as
        given, and the pixels but for the decoder's reach. Within a span of whole pictures nothing
        of the old frames is left. Of a box something is: the encoder looks beyond a latent's own
        pixels, so that the latents beside the box, and those after it in time, hold a little of
        what it showed.
        """
        how = Sampling.of(**settings)
        check_part(span, box)
        old = read_frames(video, fps=self.fps, height=height, width=width)
        size = Size(*old.shape[:3])
        part = Part.of(size, span, box)
        grid, patch = self.vae.latent_size(size), Size(*self.denoiser.model.patch)
        places = part.places(self.vae.factor, patch)
        asked = np.zeros(grid, bool)
        asked[places] = True
        given = not asked.all() or self.in_parts(grid.frames)
        codec, how = self._ready(prompt, size, how, given=given, encodes=len(old))
        whole = Part.of_places(places, self.vae.factor, size)
        if whole != part:
            log.warning("made anew, in whole tokens: frames %d to %d, %s", *whole.span, whole.box)
        latent = codec.encode(self._without(old, asked))
        canvas = blank_like(latent, latent.shape[1]).put(latent, at=0, level=asked.astype(float))
        made = self.sampled(canvas, prompt, how)
        told = {"task": "retake", "prompt": prompt, "span": part.span, "box": tuple(part.box)}
        return self.clip(_cut(codec.decode(made)[0], 0, len(old), old), how, **told)

    def _ready(
        self,
        prompt: str,
        size: Size,
        how: Sampling,
        *,
        given: bool = True,
        encodes: int = 0,
        **further: Any,
    ) -> tuple[Codec, Sampling]:
        """The autoencoder at work and the settings that apply; see `prepare`."""
        how, need = self.prepare([prompt], size, how, given=given, encodes=encodes, **further)
        return self.codec(need.tile), how

    @property
    def standstill(self) -> int:
        """Frames that are encoded before those of a clip that is encoded by itself."""
        return self.vae.pixel_size(Size(1 + PREROLL, 1, 1)).frames

    def _without(self, frames: Frames, asked: np.ndarray) -> Frames:
        """Frames from which whole latent frames that are asked for are taken out, so that the
        encoder does not see them in what follows."""
        given = ~np.all(asked, axis=(1, 2), keepdims=True)[..., 0].T
        if given.all() or not given.any():
            return frames
        return np.asarray(self.vae.lone(jnp.asarray(frames[None]), jnp.asarray(given)))[0]


def _cut(made: np.ndarray, start: int, count: int, like: np.ndarray) -> np.ndarray:
    """`count` frames from `start` on, of the height and width of others."""
    return made[start : start + count, : like.shape[1], : like.shape[2]]


def _faded(first: Frames, second: Frames) -> Frames:
    """From one clip to another, pixel by pixel; the second may be larger at its lower right."""
    count, height, width = first.shape[:3]
    faded = np.empty_like(first)
    # One by one: as real numbers all of them would take eight times as much memory.
    for index, share in enumerate(np.linspace(0, 1, count + 2)[1:-1]):
        mixed = (1 - share) * first[index] + share * second[index, :height, :width]
        faded[index] = np.rint(mixed)
    return faded
