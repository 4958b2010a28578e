"""Training of the video autoencoder: reconstruction, Kullback-Leibler, and a game against patches.

For each row, with x the clip, y its reconstruction from a sample of the posterior, D the logits of
the discriminator and [.] what is held constant:

    l1 + squared * l2² + multiscale * pyramid + divergence * KL
    + adversarial * ramp(step) * mean(-D_[d](y))
    + mean(relu(1 - D(x))) + mean(relu(1 + D([y])))                     (hinge, arXiv 1705.02894)

It is one scalar, yet its gradient is the autoencoder's own for the autoencoder's parameters and the
discriminator's own for the discriminator's: the parameters d are constant in the first player's
term and the clip y in the second's. Nothing balances the two adaptively: optimisers that clip or
scale each player apart need the two gradients only. Up to `adversarial_start` the discriminator is
not run.

Means are over the valid pixels (latents, patches) of a row, and over rows by their weight.
"""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Batch, Extent, Key, Latent, Size, Video
from sora_jax.models.autoencoder import Autoencoder, Posterior
from sora_jax.models.conv import blanked
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.perceptual import pyramid_l1, row_mean

Rows = Float[Array, "batch"]

AT_ONCE = 4
"""Latent frames of a clip that are encoded together, where it has more than twice as many."""

_GAME = ("adversarial", "discriminator")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over latents, of which mean and deviation are made; those of two batches add up."""

    count: Float[Array, ""]
    sum: Float[Array, "latent_channels"]
    squares: Float[Array, "latent_channels"]

    def __add__(self, other: Totals) -> Totals:
        return jax.tree.map(operator.add, self, other)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoding:
    """The loss of a video autoencoder, with or without a discriminator.

    squared      weight of the squared error beside an L1 of weight 1: for the sake of PSNR, which
                 is ruled by the few places that are far off.
    multiscale   weight of the pyramid term (`models.perceptual`).
    divergence   weight of the mean Kullback-Leibler divergence, in nats a latent value.
    adversarial  weight of the discriminator's opinion, reached `adversarial_ramp` steps after
                 `adversarial_start`, when the discriminator begins to learn.
    """

    vae: Autoencoder
    discriminator: PatchDiscriminator | None = None
    squared: float = 0.0
    multiscale: float = 1.0
    divergence: float = 1e-4
    adversarial: float = 0.05
    adversarial_start: int = 10_000
    adversarial_ramp: int = 1_000

    @property
    def remat(self) -> str:
        """What its autoencoder keeps for the backward pass."""
        return self.vae.remat

    def init(self, key: Key, batch: Batch) -> dict[str, Any]:
        """Returns fresh parameters {"vae": ..., "discriminator": ...}, boxed with axis names."""
        del batch  # the parameters depend on no size of it
        vae_key, discriminator_key = jax.random.split(key)
        clip = jnp.zeros((1, 1 + self.vae.factor.frames, *self.vae.factor[1:], 3))
        params = {"vae": self.vae.init(vae_key, clip)["params"]}
        if self.discriminator is not None:
            params["discriminator"] = self.discriminator.init(discriminator_key, clip)["params"]
        return params

    def loss(
        self, params: Any, key: Key, batch: Batch, step: Int[Array, ""] | int
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns the loss of `batch` and the metrics; 0 for a batch of empty rows.

        Metrics come as pairs `name/sum`, `name/count` over rows: l1, l2, multiscale, kl (nats a
        latent value), psnr (dB), and from `adversarial_start` on the players' terms `adversarial`
        and `discriminator`. Raises ValueError for a batch without pixels.
        """
        video, extent = pixels(batch), jnp.asarray(batch.extent)
        posterior = self._encode(params, batch)
        reconstruction = self._decode(params, posterior.sample(key), batch)
        terms = {
            "l1": row_mean(jnp.abs(reconstruction - video), extent),
            "l2": row_mean(jnp.square(reconstruction - video), extent),
            "multiscale": pyramid_l1(video, reconstruction, extent),
            "kl": row_mean(posterior.divergence(), self.vae.latent_extent(extent)),
        }
        rows = terms["l1"] + self.squared * terms["l2"] + self.multiscale * terms["multiscale"]
        rows += self.divergence * terms["kl"]
        if self.discriminator is not None:
            game = self._game(params["discriminator"], video, reconstruction, extent, step)
            rows += self._strength(step) * game["adversarial"] + game["discriminator"]
            terms |= game
        terms["psnr"] = psnr(video, reconstruction, extent)
        weight = jnp.asarray(batch.weight)
        return _weighted_mean(rows, weight), self._metrics(terms, weight, step)

    def _metrics(self, terms: dict[str, Rows], weight: Rows, step: Any) -> dict[str, Array]:
        begun = jnp.asarray(step >= self.adversarial_start, weight.dtype)
        metrics = {}
        for name, values in terms.items():
            counted = weight * begun if name in _GAME else weight
            metrics[f"{name}/sum"] = jnp.sum(counted * values)
            metrics[f"{name}/count"] = jnp.sum(counted)
        return metrics

    def statistics(self, params: Any, batch: Batch) -> Totals:
        """Returns the sums of the posterior means over the valid latents of the rows that count."""
        mean = self._means(params, batch)  # 0 beyond the extent
        places = jnp.prod(self.vae.latent_extent(jnp.asarray(batch.extent)), axis=1)
        weight = jnp.asarray(batch.weight)
        return Totals(
            count=jnp.sum(weight * places),
            sum=jnp.einsum("b,bfhwc->c", weight, mean),
            squares=jnp.einsum("b,bfhwc->c", weight, mean**2),
        )

    def calibrated(self, params: Any, totals: Totals) -> dict[str, Any]:
        """Returns `params` with latents normalised by `totals`, the sums of `statistics`."""
        return with_statistics(params, totals)

    def encode(self, params: Any, batch: Batch) -> Latent:
        """Returns the normalised posterior means of the rows, 0 beyond their extent."""
        latent: Any = self.vae.apply(
            {"params": params["vae"]}, self._means(params, batch), method="normalise"
        )
        return blanked(latent, self.vae.latent_extent(jnp.asarray(batch.extent)))

    def encode_spans(self, params: Any, batch: Batch) -> Latent:
        """Returns the normalised posterior means of the frames of `batch.spanned` by themselves.

        See `Autoencoder.lone`; other frames hold anything. Raises ValueError for a batch without
        `spanned`.
        """
        if batch.spanned is None:
            raise ValueError("batch.spanned is None: no frames are to be encoded by themselves")
        video = self.vae.lone(jnp.asarray(batch.video), jnp.asarray(batch.spanned))
        return self.encode(params, dataclasses.replace(batch, video=video))

    def frozen(self, params: Any) -> tuple[Autoencoder, Any]:
        """Returns what is kept of the training: the autoencoder and its parameters."""
        return self.vae, params["vae"]

    @classmethod
    def thawed(cls, vae: Autoencoder, params: Any) -> tuple[Autoencoding, Any]:
        """Returns an objective and its parameters for what `frozen` gave: it can encode."""
        return cls(vae=vae), {"vae": params}

    def _encode(self, params: Any, batch: Batch) -> Posterior:
        posterior: Any = self.vae.apply(
            {"params": params["vae"]}, pixels(batch), jnp.asarray(batch.extent), method="encode"
        )
        return posterior

    def _means(self, params: Any, batch: Batch) -> Latent:
        """Posterior means without a gradient: long clips take the memory of a part."""
        video, extent = pixels(batch), jnp.asarray(batch.extent)
        if self.vae.latent_size(Size(*video.shape[1:4])).frames <= 2 * AT_ONCE:
            return self._encode(params, batch).mean
        return self.vae.encode_in_parts(params["vae"], video, extent, latents=AT_ONCE)

    def _decode(self, params: Any, latent: Array, batch: Batch) -> Array:
        size = Size(*pixels(batch).shape[1:4])
        video: Any = self.vae.apply(
            {"params": params["vae"]},
            latent,
            size,
            jnp.asarray(batch.extent),
            method="reconstruct",
        )
        return video

    def _strength(self, step: Int[Array, ""] | int) -> Array:
        ramp = (step - self.adversarial_start) / max(self.adversarial_ramp, 1)
        return self.adversarial * jnp.clip(ramp, 0.0, 1.0)

    def _game(
        self, params: Any, video: Video, reconstruction: Video, extent: Extent, step: Any
    ) -> dict[str, Rows]:
        """Each player's term for each row; zeros, at no cost, before the game has begun."""
        constant = jax.lax.stop_gradient

        def play() -> dict[str, Rows]:
            deceived, valid = self._judged(constant(params), reconstruction, extent)
            real, _ = self._judged(params, video, extent)
            fake, _ = self._judged(params, constant(reconstruction), extent)
            errors = jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)
            return dict(
                zip(_GAME, (_patch_mean(-deceived, valid), _patch_mean(errors, valid)), strict=True)
            )

        def wait() -> dict[str, Rows]:
            return dict.fromkeys(_GAME, jnp.zeros(video.shape[0]))

        return jax.lax.cond(jnp.asarray(step >= self.adversarial_start), play, wait)

    def _judged(self, params: Any, clip: Video, extent: Extent) -> Any:
        assert self.discriminator is not None
        return self.discriminator.apply({"params": params}, clip, extent)


def pixels(batch: Batch) -> Video:
    """Returns a batch's pixels in -1..1. Raises ValueError if it holds latents instead."""
    if batch.video is None:
        raise ValueError("batch.video is None: an autoencoder learns from pixels, not from latents")
    return jnp.asarray(batch.video, jnp.float32) / 127.5 - 1


def psnr(video: Video, reconstruction: Video, extent: Extent) -> Rows:
    """Returns each row's peak signal-to-noise ratio in dB, at most 100, over the valid pixels.

    Of the clipped reconstruction; the peak of pixels in -1..1 is 2.
    """
    error = row_mean(jnp.square(jnp.clip(reconstruction, -1, 1) - video), extent)
    return 10 * jnp.log10(4 / jnp.maximum(error, 4e-10))


def with_statistics(params: Any, totals: Totals) -> dict[str, Any]:
    """Returns `params` with the latent mean and deviation that `totals` amount to.

    Raises ValueError if nothing was counted.
    """
    if not totals.count > 0:
        raise ValueError("no valid latent was counted: every row of the data is empty")
    mean = totals.sum / totals.count
    variance = totals.squares / totals.count - mean**2
    # A channel that never varies (its posterior collapsed) is left at a finite scale.
    std = jnp.sqrt(jnp.maximum(variance, 1e-8))
    measured = {"latent_mean": jnp.float32(mean), "latent_std": jnp.float32(std)}
    return {**params, "vae": {**params["vae"], **measured}}


def _patch_mean(values: Array, valid: Array) -> Rows:
    total = jnp.sum(jnp.where(valid, values, 0), axis=(1, 2, 3))
    return total / jnp.maximum(jnp.sum(valid, axis=(1, 2, 3)), 1)


def _weighted_mean(rows: Rows, weight: Rows) -> Float[Array, ""]:
    total = jnp.sum(weight)
    return jnp.sum(weight * rows) / jnp.where(total > 0, total, 1)
