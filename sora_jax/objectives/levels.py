"""How noisy each place of a training sample is, and which places are given.

`NoiseField` is the mix that makes one model of all tasks. Of the rows of a batch

    half                  one diffusion time for all frames: text to video
    two fifths            some frames are given, nearly clean: animate, extend, connect, loop
    a tenth               a time for each frame, independent or rising: SDEdit by frame, long videos
                          (diffusion forcing, arXiv 2407.01392; rising, arXiv 2504.13074)

That half of the samples must be more than text to video is what Open-Sora found (its second
report). Given frames are now and then a little noisy, ln t ~ N(-3.25, 0.5), lest the model lean on
details that an autoencoder or an earlier hop made up (Wan 2.2 and CogVideoX have -3.5 and -3). Of
rectified flow: of other schedules such a time would be other noise, and `Denoising` refuses it.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, no_type_check, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sora_jax.arrays import Extent, Key, Known, Sigma
from sora_jax.diffusion.times import MARGIN, Times


# Unchecked at run time: as a pytree it also carries shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """The noise field of a batch, and the places that are given rather than asked for.

    from_spans  for each row, whether what is given comes from the batch's `spans` (encoded without
                what is not given) rather than from its latents.
    """

    t: Sigma
    known: Known
    from_spans: Bool[Array, "batch"]


@runtime_checkable
class Drawing(Protocol):
    """How the levels of a batch are drawn."""

    def draw(
        self,
        keys: Key,
        u: Float[Array, "batch"],
        *,
        times: Times,
        tokens: Int[Array, "batch"],
        extent: Extent,
        frames: int,
        spanned: Bool[Array, "batch latent_frames"] | None = None,
    ) -> Levels:
        """Returns fields with an axis of size 1 where they do not vary.

        keys     a key for each row, for what else is random.
        u        a number in (0, 1) for each row, evenly spread over the batch: its main time.
        tokens   the sequence length of each row; extent, its valid places, in latents.
        frames   latent frames of the box.
        spanned  the frames of each row that the batch's `spans` hold.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformLevels:
    """One diffusion time for all places of a row, and nothing known."""

    def draw(
        self,
        keys: Key,
        u: Float[Array, "batch"],
        *,
        times: Times,
        tokens: Int[Array, "batch"],
        extent: Extent,
        frames: int,
        spanned: Bool[Array, "batch latent_frames"] | None = None,
    ) -> Levels:
        t = times.from_uniform(u, tokens=tokens)[:, None, None, None]
        nowhere = jnp.zeros(t.shape, bool)
        return Levels(t=t, known=nowhere, from_spans=nowhere[:, 0, 0, 0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseField:
    """The mix of the module's table.

    given     the share of rows with given frames. Half of them are given their first frame or the
              first few, as causal latents have them; the other half what `Batch.spans` holds (where
              there are none, all are of the first kind). One latent frame is never given.
    free      the share of rows with a time for each frame; half of them rising.
    noised    of the rows with given frames, those whose given frames are slightly noisy.
    dropped   of the rows with given frames, those that lose them, so that the model also knows the
              estimate without, for guidance.
    """

    given: float = 0.4
    free: float = 0.1
    noised: float = 0.2
    dropped: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.given, self.free, self.noised, self.dropped)
        if not all(0 <= share <= 1 for share in shares) or self.given + self.free > 1:
            raise ValueError(
                f"NoiseField(given={self.given}, free={self.free}, noised={self.noised}, dropped="
                f"{self.dropped}): shares lie in 0..1, and given + free is at most 1"
            )

    def draw(
        self,
        keys: Key,
        u: Float[Array, "batch"],
        *,
        times: Times,
        tokens: Int[Array, "batch"],
        extent: Extent,
        frames: int,
        spanned: Bool[Array, "batch latent_frames"] | None = None,
    ) -> Levels:
        main = times.from_uniform(u, tokens=tokens)[:, None]
        valid = extent[:, 0]
        chance = jax.vmap(lambda key: jax.random.uniform(key, (6,)))(keys)
        kind, first, drop, noise, rise, length = (chance[:, i] for i in range(6))
        # What a row is given: the beginning, or what the spans hold.
        place = jnp.arange(frames)
        count = jnp.where(first < 0.25, 1, 1 + (length * (valid // 2)).astype(int))
        beginning = place < count[:, None]
        from_spans = jnp.zeros(valid.shape, bool)
        if spanned is not None:
            from_spans = (first >= 0.5) & spanned.any(1)
        known = beginning if spanned is None else jnp.where(from_spans[:, None], spanned, beginning)
        given = (kind < self.given) & (drop >= self.dropped) & (valid > 1)
        known &= given[:, None]
        slight = jnp.exp(-3.25 + 0.5 * jax.vmap(_normal)(keys))[:, None]
        level = jnp.where(noise[:, None] < self.noised, jnp.minimum(slight, main), 0.0)
        # A time for each frame.
        own = jax.vmap(lambda key: jax.random.uniform(key, (frames,), minval=MARGIN))(
            jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        )
        each = times.from_uniform(own, tokens=tokens[:, None])
        each = jnp.where(rise[:, None] < 0.5, _rising(each, valid), each)
        free = (kind >= 1 - self.free)[:, None]
        t = jnp.where(known, level, jnp.where(free, each, main))
        return Levels(
            t=t[:, :, None, None],
            known=known[:, :, None, None],
            from_spans=from_spans & given,
        )


def _normal(key: Key) -> Float[Array, ""]:
    return jax.random.normal(jax.random.fold_in(key, 2))


def _rising(
    times: Float[Array, "batch latent_frames"], valid: Int[Array, "batch"]
) -> Float[Array, "batch latent_frames"]:
    """The times of each row's valid frames in rising order; what follows stays behind them."""
    beyond = jnp.arange(times.shape[1]) >= valid[:, None]
    return jnp.sort(times + 2 * beyond, axis=1) - 2 * beyond
