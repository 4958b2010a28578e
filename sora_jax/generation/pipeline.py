"""From prompts to clips: text to video and to image, at any size and of any length."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, overload

import jax.numpy as jnp
import numpy as np
from etils import epath

from sora_jax.arrays import Size
from sora_jax.data.framing import resized
from sora_jax.data.video import VideoError, check_output, read_metadata, write_stream
from sora_jax.diffusion.samplers import fold
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.clip import Clip
from sora_jax.generation.inputs import Given, read_frames
from sora_jax.generation.model import start_noise
from sora_jax.generation.rollout import Hop, Kept, plan_hops, roll
from sora_jax.generation.settings import Sampling, Settings, key_of, strengths
from sora_jax.generation.tasks import Tasks

log = logging.getLogger("sora_jax")


class Pipeline(Tasks):
    """A trained model and all that it can be asked for; see `GenerativeModel` for its fields."""

    @overload
    def generate(self, prompt: str, **settings: Any) -> Clip: ...
    @overload
    def generate(self, prompt: Sequence[str], **settings: Any) -> list[Clip]: ...
    def generate(  # pyright: ignore[reportInconsistentOverload] (the settings are spelt out here)
        self,
        prompt: str | Sequence[str],
        *,
        frames: int = 17,
        height: int = 64,
        width: int = 64,
        batch: int = 1,
        **settings: Unpack[Settings],
    ) -> Clip | list[Clip]:
        """Returns a clip for a prompt, or one for each of several (seeds `seed`, `seed` + 1, ...).

        frames, height, width  of the clip, in pixels; one frame makes an image. Sizes that the
                               autoencoder cannot make are sampled larger and cut back. Clips longer
                               than those of the training are made hop by hop (see `rollout`).
        batch      how many prompts are sampled together. It changes clips by rounding alone.
        settings   `settings.Settings`.

        Raises ValueError for impossible settings and MemoryError, with the estimate, for a size
        that does not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one prompt")
        size, together = Size(frames, height, width), min(batch, len(prompts))
        how, tile, hops = self._plan(prompts, size, Sampling.of(**settings), batch=together)
        clips = []
        starts = range(0, len(prompts), together)
        with self.ticking(len(starts) * len(hops), how) as tick:
            for start in starts:
                # The last batch is filled up, so that one program serves all.
                texts = prompts[start : start + together]
                seeds = range(how.seed + start, how.seed + len(prompts))[:together]
                rows = [*seeds, *[how.seed] * (together - len(seeds))]
                latents = roll(
                    self,
                    texts + [""] * (together - len(texts)),
                    how,
                    hops,
                    size=self.vae.latent_size(size)[1:],
                    keys=jnp.stack([key_of(row) for row in rows]),
                    tick=tick,
                )
                videos = self.codec(tile).decode(np.concatenate(list(latents), axis=1))
                for text, row, video in zip(texts, rows, videos, strict=False):
                    own = dataclasses.replace(how, seed=row)
                    video = video[:frames, :height, :width]
                    clips.append(self.clip(video, own, task="generate", prompt=text, size=size))
        return clips[0] if isinstance(prompt, str) else clips

    def check(self, prompts: Sequence[str], size: Size, **settings: Unpack[Settings]) -> None:
        """Raises what `generate` would raise before it begins."""
        self._plan(list(prompts), size, Sampling.of(**settings))

    def check_refine(self, prompt: str, size: Size, *, strength: float, **settings: Any) -> None:
        """Raises what `refine` to `size` pixels would raise before it begins."""
        self._ready_to_refine(prompt, size, strength, Sampling.of(**settings))

    def image(
        self, prompt: str, *, height: int = 64, width: int = 64, **settings: Unpack[Settings]
    ) -> Clip:
        """Returns an image, a clip of one frame; see `generate`."""
        return self.generate(prompt, frames=1, height=height, width=width, **settings)

    def generate_to(
        self,
        path: str | os.PathLike[str],
        prompt: str,
        *,
        frames: int,
        height: int = 64,
        width: int = 64,
        again: bool = True,
        **settings: Unpack[Settings],
    ) -> None:
        """Writes the clip of `generate` to a file, of any length in the same memory.

        The latents of finished hops lie in a folder beside it, `path` and ".parts", until it is
        written: called again with the same settings and weights, it goes on where it was stopped.
        That needs an .mp4; frames of other formats are gathered before they are written.

        again  False leaves a file as it is that tells of these settings and weights; so a script
               that makes several does not make again what it finished before it was stopped.

        Raises ValueError if parts of another clip lie there, else what `generate` and `write_video`
        raise.
        """
        size = Size(frames, height, width)
        streams = os.fspath(path).lower().endswith(".mp4")
        how, tile, hops = self._plan([prompt], size, Sampling.of(**settings), streams=streams)
        check_output(path, frames=frames, fps=self.fps)
        told = self.clip(
            np.zeros((0, height, width, 3), np.uint8),
            how,
            task="generate",
            prompt=prompt,
            size=size,
        ).metadata
        record = dict(told) | {"weights": self.fingerprint()}
        if not again and _tells(path, record):
            log.info("%s: there already, made with these settings and weights", path)
            return
        kept = Kept.open(f"{os.fspath(path)}.parts", record)
        with self.ticking(len(hops), how) as tick:
            latents = roll(
                self,
                [prompt],
                how,
                hops,
                size=self.vae.latent_size(size)[1:],
                keys=key_of(how.seed)[None],
                tick=tick,
                kept=kept,
            )
            chunks = (video[0] for video in self.codec(tile).stream(latents))
            write_stream(path, _framed(chunks, size), fps=self.fps, metadata=record)
        kept.remove()

    def refine(
        self,
        small: Given,
        prompt: str,
        *,
        height: int,
        width: int,
        strength: float = 0.7,
        **settings: Unpack[Settings],
    ) -> Clip:
        """Returns a clip of height x width with the composition of a small one of the same prompt.

        The small clip is enlarged and noised to `strength`; and where it came from the same seed,
        the low frequencies of that noise are the noise that it was made of (of a clip longer than
        the model sees at once, that of its first hop). It is enlarged in pixels: latents of another
        resolution are not those of a larger picture. Where the aspect ratio is another it is
        stretched, which is logged.

        strength  the diffusion time that it is noised to, 0 (only enlarged) to 1 (nothing of it but
                  the noise's low frequencies).

        Raises ValueError for another strength or an impossible size, VideoError for a file that
        cannot be read, and MemoryError, with the estimate, for a size that does not fit.
        """
        how = Sampling.of(**settings)
        old = read_frames(small, fps=self.fps, what="small")
        size = Size(len(old), height, width)
        codec, how = self._ready_to_refine(prompt, size, strength, how)
        rows, columns = old.shape[1:3]
        # Sides that were divided and rounded down are off by less than a pixel of the small clip.
        if abs(height * columns - width * rows) >= max(height, width):
            log.warning("small: stretched, made %dx%d of %dx%d", height, width, rows, columns)
        latent = codec.encode(resized(old, height, width))
        key = key_of(how.seed)[None]
        coarse = (1, *self.vae.latent_size(Size(*old.shape[:3])), latent.shape[-1])
        noise = refined_noise(
            np.asarray(start_noise(key, coarse)),
            np.asarray(start_noise(fold(key, 1), latent.shape)),
        )
        grid = Size(*latent.shape[1:4])
        canvas = Canvas.blank(grid, latent.shape[-1]).put(latent, at=0, level=strength)
        made = self.sampled(canvas, prompt, how, noise=noise)
        frames = codec.decode(made)[0][:, :height, :width]
        return self.clip(frames, how, task="refine", prompt=prompt, size=size, strength=strength)

    def _ready_to_refine(self, prompt: str, size: Size, strength: float, how: Sampling) -> Any:
        strengths(strength)
        given = strength == 0 or self.in_parts(self.vae.latent_size(size).frames)
        return self._ready(prompt, size, how, given=given, encodes=size.frames, refines=True)

    def _plan(
        self,
        prompts: list[str],
        size: Size,
        how: Sampling,
        *,
        batch: int = 1,
        streams: bool = False,
    ) -> tuple[Sampling, int | None, list[Hop]]:
        """The settings that apply, the tile to decode in, and the hops to `size` pixels."""
        if how.seed + len(prompts) > 2**63:
            raise ValueError(
                f"seed={how.seed}: those of {len(prompts)} clips would go beyond 2^63 - 1; give a "
                "smaller one"
            )
        longer = size.frames > (self.domain.frames or size.frames)
        how, need = self.prepare(prompts, size, how, batch=batch, given=longer, streams=streams)
        count = self.vae.latent_size(size).frames
        return how, need.tile, plan_hops(0, count, window=self.window)


def _tells(path: str | os.PathLike[str], told: Mapping[str, str]) -> bool:
    """Whether there is a file that says just this of itself."""
    if not epath.Path(path).exists():
        return False
    try:
        return read_metadata(path) == told
    except VideoError:
        return False


def _framed(chunks: Iterator[Any], size: Size) -> Iterator[Any]:
    """Chunks of frames, cut to a size."""
    left = size.frames
    for chunk in chunks:
        yield chunk[:left, : size.height, : size.width]
        left -= len(chunk)


def refined_noise(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Returns standard normal noise of the size of `fine` whose low frequencies are `coarse`.

    Of both [batch, frames, height, width, channels]. Each place of the coarse grid stands for a
    block of the fine one: the mean of a block of n values of white noise is normal with deviation
    n^-1/2, and independent of what is left of the block without it; so the mean may be replaced.
    """
    rows, columns = (np.arange(fine.shape[i]) * coarse.shape[i] // fine.shape[i] for i in (2, 3))
    block = (rows[:, None] * coarse.shape[3] + columns).ravel()

    def by_place(noise: np.ndarray) -> np.ndarray:
        return np.moveaxis(noise.reshape(*noise.shape[:2], -1, noise.shape[-1]), 2, 0)

    old, new = by_place(coarse), by_place(fine)
    total, count = np.zeros_like(old), np.zeros((len(old), 1, 1, 1), old.dtype)
    np.add.at(total, block, new)
    np.add.at(count, block, 1)
    count = np.maximum(count, 1)  # a fine grid may have no place in a coarse one
    mixed = new + (old / np.sqrt(count) - total / count)[block]
    return np.moveaxis(mixed, 0, 2).reshape(fine.shape)
