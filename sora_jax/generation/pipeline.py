"""From prompts to clips: text to video and to image, at any size."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Sequence
from typing import Any, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from rich.progress import track

import sora_jax
from sora_jax.arrays import HostOrDevice, Key, Size, Text
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler, Sampler, fold, normal_rows
from sora_jax.diffusion.times import grid
from sora_jax.generation.clip import Clip
from sora_jax.generation.domain import Domain
from sora_jax.generation.memory import check_memory
from sora_jax.models.autoencoder import Autoencoder

log = logging.getLogger("sora_jax")

LATENTS_AT_ONCE = 8
"""Latent frames decoded together; longer clips go through the decoder in a stream."""


@runtime_checkable
class Tokenizer(Protocol):
    """Turns prompts into what the text encoder was trained on."""

    def tokens(self, texts: Sequence[str]) -> Text: ...

    def truncated(self, texts: Sequence[str]) -> int: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """A trained transformer with its text encoder, and the autoencoder whose latents it knows.

    denoiser     the objective that it was trained by, with schedule, prediction and models.
    params       {"model": ..., "text": ...}.
    fps          frames per second of the clips that it was trained on.
    source       where it came from, kept in what it makes.
    domain       what it can be asked for. A prompt that goes beyond is told of, and gets its clip.
    """

    denoiser: Any
    params: Any
    vae: Autoencoder
    vae_params: Any
    tokenizer: Tokenizer
    fps: float
    source: str
    domain: Domain = Domain()

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
        steps: int = 50,
        guidance: float | Guidance = 3.0,
        seed: int = 0,
        negative: str = "",
        sampler: Sampler | None = None,
        batch: int = 1,
        progress: bool = False,
    ) -> Clip | list[Clip]:
        """Returns a clip for a prompt, or one for each of several (seeds `seed`, `seed` + 1, ...).

        frames, height, width  of the clip, in pixels; one frame makes an image. Sizes that the
                               autoencoder cannot make are sampled larger and cropped back.
        steps      of the sampler, which is `Euler` by default; one that is given brings its own.
        guidance   how strongly the prompt is followed: 1 not beyond what was learnt. A `Guidance`
                   has an interval of times and a rescaling besides.
        seed       the same seed gives the same clip.
        negative   what to be guided away from.
        batch      how many prompts are sampled together. It changes clips by rounding alone.
        progress   show a bar.

        Raises ValueError for impossible settings and MemoryError, with the estimate, for a size
        that does not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one prompt")
        wanted = Size(frames, height, width)
        if min(*wanted, batch) < 1:
            raise ValueError(
                f"size {wanted} in batches of {batch} is impossible; all of these start at 1"
            )
        sampler = Euler(steps=steps) if sampler is None else sampler
        latent_size = self.vae.latent_size(wanted)
        if not isinstance(guidance, Guidance):
            guidance = Guidance(scale=float(guidance))
        together = min(batch, len(prompts))
        check_memory(
            self, wanted, guided=guidance.active, latents_at_once=LATENTS_AT_ONCE, batch=together
        )
        if cut := self.tokenizer.truncated(prompts):
            log.warning("%d of %d prompts are too long and lose their end", cut, len(prompts))
        self._hint(prompts)
        clips = []
        total = -(-len(prompts) // together) * sampler.steps
        ticks = iter(track(range(total), description="sampling", disable=not progress))
        for start in range(0, len(prompts), together):
            # The last batch is filled up, so that one program serves all.
            texts = prompts[start : start + together]
            texts += [""] * (together - len(texts))
            latent = self._sample(
                self._condition(texts, negative),
                latent_size,
                sampler=sampler,
                guidance=guidance,
                keys=jnp.stack([jax.random.key(seed + start + row) for row in range(together)]),
                tick=lambda: next(ticks, None),
            )
            videos = self.decode(latent)[:, :frames, :height, :width]
            for row, text in enumerate(prompts[start : start + together]):
                settings = {
                    "prompt": text,
                    "negative": negative,
                    "seed": seed + start + row,
                    "size": wanted,
                    "sampler": sampler,
                    "guidance": guidance,
                    "model": self.source,
                    "version": f"sora_jax {sora_jax.__version__}",
                }
                metadata = {name: str(value) for name, value in settings.items()}
                clips.append(Clip(frames=videos[row], fps=self.fps, metadata=metadata))
        next(ticks, None)
        return clips[0] if isinstance(prompt, str) else clips

    def _hint(self, prompts: Sequence[str]) -> None:
        """Tells of the words that the model has never seen."""
        if strange := dict.fromkeys(w for text in prompts for w in self.domain.strange(text)):
            log.warning(
                "%s was trained without the words: %s. It can be asked for: %s",
                self.source,
                ", ".join(strange),
                self.domain.about,
            )

    def decode(
        self, latent: Float[HostOrDevice, "batch f h w c"]
    ) -> UInt8[np.ndarray, "batch frames height width 3"]:
        """Returns the pixels of normalised latents, streamed where the clip is long."""
        frames = latent.shape[1]
        if frames <= LATENTS_AT_ONCE:
            return np.asarray(_decode(self.vae, self.vae_params, latent))
        parts, past = [], None
        # The first latent stands for one frame; the rest in equal chunks, so that few programs are
        # compiled.
        for start in (0, *range(1, frames, LATENTS_AT_ONCE)):
            end = 1 if start == 0 else start + LATENTS_AT_ONCE
            part, past = _decode_chunk(self.vae, self.vae_params, latent[:, start:end], past)
            parts.append(np.asarray(part))
        return np.concatenate(parts, axis=1)

    def _condition(self, prompts: list[str], negative: str) -> tuple[Text, Text | None]:
        # The empty prompt is the null that training dropped captions to.
        against = self.tokenizer.tokens([negative] * len(prompts)) if negative else None
        return self.tokenizer.tokens(prompts), against

    def _sample(
        self,
        condition: tuple[Text, Text | None],
        size: Size,
        *,
        sampler: Sampler,
        guidance: Guidance,
        keys: Key,
        tick: Any,
    ) -> Float[Array, "batch f h w c"]:
        # Every row from its own key, as if it were alone.
        start_keys, step_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        x = jnp.zeros((len(keys), *size, self.vae.latent_channels))
        x = normal_rows(start_keys, x)
        x = self.denoiser.schedule.mix(jnp.zeros_like(x), x, 1.0)
        tokens = int(self.denoiser.tokens(jnp.array([size]))[0])
        times = np.asarray(grid(sampler.steps, self.denoiser.times.alpha(tokens)))
        spoken = _speak(self.denoiser, guidance, self.params, *condition)
        carry = sampler.init(x)
        for index, (t, t_next) in enumerate(itertools.pairwise(times)):
            carry = _step(
                self.denoiser,
                sampler,
                guidance,
                self.params,
                spoken,
                carry,
                t,
                t_next,
                fold(step_keys, index),
            )
            jax.block_until_ready(carry)
            tick()
        return carry.x


@functools.partial(jax.jit, static_argnums=(0, 1))
def _speak(
    denoiser: Any, guidance: Guidance, params: Any, text: Text, negative: Text | None
) -> Any:
    return denoiser.condition(params, text, guidance=guidance, negative=negative)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    denoiser: Any,
    sampler: Sampler,
    guidance: Guidance,
    params: Any,
    condition: Any,
    carry: Any,
    t: Any,
    t_next: Any,
    key: Key,
) -> Any:
    estimate = denoiser.estimator(params, condition, guidance=guidance)
    key_or_none = key if sampler.stochastic else None
    return sampler.step(
        estimate, carry, t, t_next, schedule=denoiser.schedule, start=1.0, key=key_or_none
    )


def to_uint8(video: Float[Array, "batch frames height width 3"]) -> UInt8[Array, "b f h w 3"]:
    """Returns pixels of -1..1 as 0..255, clipped."""
    return jnp.clip(jnp.round((video + 1) * 127.5), 0, 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _decode(vae: Autoencoder, params: Any, latent: Any) -> Any:
    latent = vae.apply({"params": params}, latent, method="denormalise")
    return to_uint8(vae.apply({"params": params}, latent, method="decode"))  # type: ignore[arg-type]


@functools.partial(jax.jit, static_argnums=0)
def _decode_chunk(vae: Autoencoder, params: Any, latent: Any, past: Any) -> Any:
    latent = vae.apply({"params": params}, latent, method="denormalise")
    video, past = vae.apply({"params": params}, latent, past, method="decode_chunk")
    return to_uint8(video), past
