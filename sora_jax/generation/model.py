"""What all tasks of generation do: read a prompt, sample a canvas, tell how a clip came to be."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from rich.progress import Progress

import sora_jax
from sora_jax.arrays import Key, Latent, Size, Text
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import fold, normal_rows
from sora_jax.diffusion.times import grid
from sora_jax.generation.canvas import Canvas, estimator, ring
from sora_jax.generation.clip import Clip
from sora_jax.generation.devices import ANY, Devices
from sora_jax.generation.domain import Domain
from sora_jax.generation.memory import Need, needed
from sora_jax.generation.pixels import Codec
from sora_jax.generation.settings import Sampling
from sora_jax.models.autoencoder import Autoencoder

log = logging.getLogger("sora_jax")

Tick = Callable[[], Any]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns prompts into what the text encoder was trained on."""

    def tokens(self, texts: Sequence[str]) -> Text: ...

    def truncated(self, texts: Sequence[str]) -> int: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GenerativeModel:
    """A trained transformer with its text encoder, and the autoencoder whose latents it knows.

    denoiser     the objective that it was trained by, with schedule, prediction and models.
    params       {"model": ..., "text": ...}.
    fps          frames per second of the clips that it was trained on.
    source       where it came from, kept in what it makes.
    domain       what it can be asked for. A prompt that goes beyond is told of, and gets its clip.
    devices      those that share the work; the parameters lie there.
    """

    denoiser: Any
    params: Any
    vae: Autoencoder
    vae_params: Any
    tokenizer: Tokenizer
    fps: float
    source: str
    domain: Domain = Domain()
    devices: Devices = ANY

    def __repr__(self) -> str:
        """What it is and what it can be asked for, in place of all its parameters."""
        count = sum(leaf.size for leaf in jax.tree.leaves((self.params, self.vae_params)))
        told = f"{type(self).__name__} of {self.source}, {count / 1e6:.1f}M parameters"
        known = ", ".join(map(str, self.domain.sizes))
        sizes = f"; trained on clips of {known}, at {self.fps:g} frames per second" if known else ""
        return f"<{told}{sizes}{f'. {self.domain.about}' if self.domain.about else ''}>"

    @property
    def window(self) -> int | None:
        """The most latent frames that it was trained on together; None if that is not known."""
        frames = self.domain.frames
        return self.vae.latent_size(Size(frames, 1, 1)).frames if frames else None

    def in_parts(self, latents: int) -> bool:
        """Whether so many latent frames are made window by window, each given those before it."""
        return self.window is not None and latents > self.window

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that tell these parameters from others."""
        sums = self.devices.everywhere(_sums((self.params, self.vae_params)))
        found = [(jax.tree_util.keystr(at), int(x)) for at, x in jax.tree.leaves_with_path(sums)]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]

    def codec(self, tile: int | None = None) -> Codec:
        """Returns what turns clips into latents and back, in tiles if they are large."""
        return Codec(vae=self.vae, params=self.vae_params, tile=tile, devices=self.devices)

    def prepare(
        self,
        prompts: Sequence[str],
        size: Size,
        how: Sampling,
        *,
        batch: int = 1,
        given: bool,
        encodes: int = 0,
        more: int = 0,
        closed: bool = False,
        streams: bool = False,
        refines: bool = False,
    ) -> tuple[Sampling, Need]:
        """Looks at what is asked for before any work: prompts of `size` pixels, `batch` together.

        given    whether the model is given latents.
        encodes  frames of pixels that are encoded for it; this and what follows as in
                 `memory.needed`.
        refines  whether a smaller clip gives the composition, so that no size is too large.

        Returns the settings that apply: what is not `given` cannot be weighed, and prompts that are
        what to be guided away from (both empty, say) cannot be followed. Raises ValueError for an
        impossible size and MemoryError, with the estimate, for one that does not fit.
        """
        if min(*size, batch) < 1:
            raise ValueError(
                f"size {size} in batches of {batch} is impossible; all of these start at 1"
            )
        if not given:
            asked = {"guidance given": how.guidance.given - 1, "given_noise": how.given_noise}
            if idle := [name for name, value in asked.items() if value]:
                log.warning("%s: does nothing, as all is made anew", " and ".join(idle))
            guidance = dataclasses.replace(how.guidance, given=1.0)
            how = dataclasses.replace(how, guidance=guidance, given_noise=0.0)
        if all(prompt == how.negative for prompt in prompts):
            how = dataclasses.replace(how, guidance=dataclasses.replace(how.guidance, scale=1.0))
        if given and not self.denoiser.knows_given:
            log.warning(
                "%s was not trained with frames that are given as here: it hardly knows what to "
                "make of them; train a Denoising with levels=NoiseField()",
                self.source,
            )
        need = needed(
            self,
            size,
            estimates=how.guidance.estimates,
            batch=batch,
            encodes=encodes,
            more=more,
            closed=closed,
            streams=streams,
            first=not _step._cache_size(),  # pyright: ignore[reportAttributeAccessIssue]
        )
        if how.progress:
            log.info("%s", need)
        if not refines and (largest := self.domain.outgrown(size)):
            log.warning(
                "%d x %d pixels are more than twice as many as %s saw in clips of this length "
                "(%d x %d): things may repeat or fall apart; a smaller height or width suits it "
                "(of files, --height and --width), which `generate --prototype` and "
                "`Pipeline.refine` make larger",
                *(size.height, size.width, self.source),
                *(largest.height, largest.width),
            )
        if smallest := self.domain.undercut(size):
            log.warning(
                "%d x %d pixels are at most half as many as %s saw in any clip of this length "
                "(%d x %d): a larger height or width suits it",
                *(size.height, size.width, self.source),
                *(smallest.height, smallest.width),
            )
        if cut := self.tokenizer.truncated(prompts):
            log.warning("%d of %d prompts are too long and lose their end", cut, len(prompts))
        if self.tokenizer.truncated([how.negative]):
            log.warning("the negative prompt is too long and loses its end")
        if strange := dict.fromkeys(w for text in prompts for w in self.domain.strange(text)):
            log.warning(
                "%s was trained without the words: %s. It can be asked for: %s",
                self.source,
                ", ".join(strange),
                self.domain.about,
            )
        return how, need

    def sample(
        self,
        canvas: Canvas,
        prompts: Sequence[str],
        how: Sampling,
        *,
        keys: Key,
        noise: Latent | None = None,
        closed: bool = False,
        tick: Tick | None = None,
    ) -> Latent:
        """Returns the latents of a canvas, each row by its prompt and its own key, as if alone.

        noise   what to begin with; by default that of the keys.
        closed  the latents close to a ring.

        What is given on the canvas comes back to the bit.
        """
        step_keys = jax.vmap(jax.random.split)(keys)[:, 1]
        noise = start_noise(keys, canvas.reference.shape) if noise is None else noise
        x = self.denoiser.schedule.mix(canvas.reference, noise, canvas.start)
        before = None
        if closed:
            first = start_noise(fold(keys, 1), x[:, :1].shape)
            before = self.denoiser.schedule.mix(jnp.zeros_like(first), first, 1.0)
        words = self.tokenizer.tokens(prompts)
        # The empty prompt is the null that training dropped captions to.
        against = self.tokenizer.tokens([how.negative] * len(prompts)) if how.negative else None
        times = self._times(canvas, how)
        given = (canvas, before, (noise, jnp.asarray(how.given_noise, float)))
        carry, given, words, against = self.devices.everywhere(
            (how.sampler.init(x), given, words, against)
        )
        with self.devices.use():
            spoken = _speak(self.denoiser, how.guidance, self.params, words, against)
        for index, when in enumerate(itertools.pairwise(times)):
            key = self.devices.everywhere(fold(step_keys, index))
            with self.devices.use():
                carry = _step(
                    self.denoiser,
                    how.sampler,
                    how.guidance,
                    self.params,
                    spoken,
                    *given,
                    carry,
                    (*when, index),
                    key,
                )
            jax.block_until_ready(carry)
            if tick:
                tick()
        return self.devices.everywhere(carry.x)

    def _times(self, canvas: Canvas, how: Sampling) -> np.ndarray:
        """The times of sampling, from the highest start level on."""
        size = jnp.array([canvas.reference.shape[1:4]])
        alpha = self.denoiser.times.alpha(int(self.denoiser.tokens(size)[0]))
        times = np.asarray(grid(how.sampler.steps, alpha))
        highest = float(canvas.start.max())
        return np.array([highest, *times[times < highest]], times.dtype)

    @contextlib.contextmanager
    def ticking(self, hops: int, how: Sampling) -> Iterator[Tick]:
        """Shows a bar of `hops` times all steps of the sampler; yields what moves it by one."""
        total = hops * how.sampler.steps
        with Progress(disable=not how.progress) as bar:
            task = bar.add_task("sampling", total=total)
            yield lambda: bar.advance(task)
            # Edits of a strength below 1 take fewer steps.
            bar.update(task, completed=total)

    def clip(
        self, frames: UInt8[np.ndarray, "frames height width 3"], how: Sampling, **told: Any
    ) -> Clip:
        """Returns frames as a clip that tells how it was made: by `told`, and by the settings."""
        settings = told | {
            "negative": how.negative,
            "seed": how.seed,
            "sampler": how.sampler,
            "guidance": how.guidance,
            "given_noise": how.given_noise,
            "model": self.source,
            "version": f"sora_jax {sora_jax.__version__}",
        }
        metadata = {name: str(value) for name, value in settings.items()}
        return Clip(frames=frames, fps=self.fps, metadata=metadata)


@jax.jit
def _sums(tree: Any) -> Any:
    """The sum of the bits of each array, taken for integers: the same in any order."""

    def total(leaf: Any) -> Any:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}"))
        return jnp.sum(bits, dtype=jnp.uint32)

    return jax.tree.map(total, tree)


def start_noise(keys: Key, shape: tuple[int, ...]) -> Latent:
    """Returns what sampling begins with: standard normal noise, each row of it from its key."""
    return normal_rows(jax.vmap(jax.random.split)(keys)[:, 0], jnp.zeros(shape))


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
    canvas: Canvas,
    before: Any,
    shown: tuple[Any, Any],
    carry: Any,
    when: tuple[Any, Any, Any],
    key: Key,
) -> Any:
    t, t_next, index = when
    if before is None:
        estimate = estimator(
            denoiser,
            params,
            condition,
            canvas,
            noise=shown[0],
            given_noise=shown[1],
            guidance=guidance,
        )
    else:
        open_clips = denoiser.estimator(params, condition, guidance=guidance)
        estimate = ring(open_clips, before, offset=index)
    return sampler.step(
        estimate,
        carry,
        t,
        t_next,
        schedule=denoiser.schedule,
        start=canvas.start,
        key=key if sampler.stochastic else None,
    )
