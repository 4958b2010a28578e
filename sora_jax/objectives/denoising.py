"""Diffusion training: noise the latents, let the model tell the parts, compare where it counts.

For each row of a batch: draw a noise field t and the places known beforehand, form x = signal(t) c
+ noise(t) e, and average the weighted squared error of the model's output over the places that are
valid (within the row's extent) and not known. Rows count by their `weight`, whatever their size.

Every row's random numbers depend on the step's key and the row's position alone, so that empty
rows, a larger batch or other neighbours change nothing for it. (A row padded to a larger box does
get other noise; and JAX's hardware generators, `rbg`, do not keep rows apart: use the default.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Batch, Extent, Key, Known, Latent, Sigma, Size, Text
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.prediction import Estimate, Prediction, Unweighted, Velocity, Weighting
from sora_jax.diffusion.samplers import Estimator, normal_rows
from sora_jax.diffusion.schedules import RectifiedFlow, Schedule, Time, Values
from sora_jax.diffusion.times import LogitNormal, LogNormalSigma, Times, spread_uniform
from sora_jax.models.conv import inside
from sora_jax.models.dit import DiT, Prompt
from sora_jax.models.patches import token_extent
from sora_jax.models.remat import Remat
from sora_jax.models.text import ByteEncoder, LabelEncoder, WordEncoder
from sora_jax.objectives.bands import Places, by_band, ratio
from sora_jax.objectives.levels import Drawing, Levels, NoiseField, UniformLevels

UNGUIDED = Guidance()

Forgotten = Callable[[Values, Values], tuple[Values, Values]]
"""Latents and their times, with what is given noised like the rest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising:
    """The loss of a diffusion transformer with its text encoder.

    caption_dropout  the share of rows whose caption is replaced by the text encoder's null, so
                     that the same model knows the unconditional estimate (arXiv 2207.12598).
    factor           pixels per latent of the autoencoder: frames beyond the first, height, width.

    Raises ValueError where the prediction, the schedule and the times do not suit one another.
    """

    model: DiT
    text: ByteEncoder | WordEncoder | LabelEncoder
    schedule: Schedule = RectifiedFlow()
    prediction: Prediction = Velocity()
    times: Times = LogitNormal()
    weighting: Weighting = Unweighted()
    levels: Drawing = UniformLevels()
    caption_dropout: float = 0.1
    factor: Size = Size(4, 8, 8)

    def __post_init__(self) -> None:
        self.prediction.check(self.schedule)
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"caption_dropout={self.caption_dropout}: give a share in 0..1")
        if isinstance(self.times, LogNormalSigma) and self.times.schedule != self.schedule:
            raise ValueError(
                f"times.schedule is {self.times.schedule} but schedule is {self.schedule}: "
                "log-normal sigmas need the objective's own EDM schedule"
            )

        if isinstance(self.levels, NoiseField) and not isinstance(self.schedule, RectifiedFlow):
            raise ValueError(
                f"levels is a NoiseField, whose given frames are nearly clean under RectifiedFlow, "
                f"and schedule is {type(self.schedule).__name__}: take one or the other"
            )

    @property
    def channels(self) -> int:
        """Of the latents that are denoised."""
        return self.model.latent_channels

    @property
    def knows_given(self) -> bool:
        """Whether training shows it clips of which some frames are given."""
        return isinstance(self.levels, NoiseField) and self.levels.given > 0

    @property
    def remat(self) -> Remat:
        """What its model keeps for the backward pass."""
        return self.model.remat

    def rematerialised(self, remat: Remat) -> Denoising:
        """Returns the same objective, whose model keeps other things for the backward pass."""
        return dataclasses.replace(self, model=self.model.clone(remat=remat))

    def init(self, key: Key, batch: Batch) -> dict[str, Any]:
        """Returns fresh parameters {"model": ..., "text": ...}, boxed with their axis names."""
        model_key, text_key = jax.random.split(key)
        latent, text = _latent(batch), batch.text
        length = jnp.asarray(text.length)
        (features, count), variables = self.text.init_with_output(
            text_key, jnp.asarray(text.tokens), length
        )
        t = jnp.ones((latent.shape[0], 1, 1, 1))
        model = self.model.init(
            model_key,
            latent,
            t,
            features,
            count,
            extent=self.latent_extent(jnp.asarray(batch.extent)),
            known=jnp.zeros(t.shape, bool),
        )
        return {"model": model["params"], "text": variables.get("params", {})}

    def loss(
        self, params: Any, key: Key, batch: Batch, step: Int[Array, ""] | int
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns the loss of `batch` and the metrics; 0 for a batch of empty rows.

        Metrics: `loss`, and for each band of diffusion time the pair `loss_sigma_LOW_HIGH/sum`,
        `/count`, whose count is the number of rows (or parts of rows) in it. Raises ValueError for
        a batch without latents.
        """
        level_key, spread_key, text_key, noise_key = jax.random.split(key, 4)
        rows = jnp.arange(batch.extent.shape[0])
        extent = self.latent_extent(jnp.asarray(batch.extent))
        levels = self.levels.draw(
            _per_row(level_key, rows),
            spread_uniform(spread_key, rows),
            times=self.times,
            tokens=self.tokens(extent),
            extent=extent,
            frames=_latent(batch).shape[1],
            spanned=None if batch.spanned is None else jnp.asarray(batch.spanned),
        )
        text = self.drop_captions(batch.text, _per_row(text_key, rows))
        error, share = self._errors(params, _per_row(noise_key, rows), batch, text, levels)
        loss = ratio(jnp.sum(share * error), jnp.sum(share))
        return loss, {"loss": loss} | by_band(error, share, levels.t)

    def grid_loss(
        self, params: Any, key: Key, batch: Batch, t: Time
    ) -> dict[str, Float[Array, ""]]:
        """Returns the pair `loss/sum`, `loss/count` over rows, all places being noised to `t`.

        For validation at fixed times: the pairs of several batches add up. Captions are kept. `t`
        may be traced, so that one compiled program serves a bucket at every time.
        """
        rows = jnp.arange(batch.extent.shape[0])
        field = jnp.full((rows.size, 1, 1, 1), t, float)
        nowhere = jnp.zeros(field.shape, bool)
        levels = Levels(t=field, known=nowhere, from_spans=nowhere[:, 0, 0, 0])
        error, share = self._errors(params, _per_row(key, rows), batch, batch.text, levels)
        return {"loss/sum": jnp.sum(share * error), "loss/count": jnp.sum(share)}

    def condition(
        self,
        params: Any,
        text: Text,
        *,
        guidance: Guidance = UNGUIDED,
        negative: Text | None = None,
    ) -> Prompt:
        """Returns the captions as `estimator` takes them, to be read once for all steps.

        Where `guidance` is active they are followed by as many of `negative`, what to be guided
        away from: captions of the same number of tokens, the null caption by default. Where it
        weighs what is given, by the captions once more.
        """
        parts = [text]
        if guidance.active:
            parts.append(self._null(text) if negative is None else negative)
        if guidance.weighs_given:
            parts.append(text)
        return self._read(params, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts))

    def estimator(
        self,
        params: Any,
        condition: Prompt,
        *,
        extent: Extent | None = None,
        known: Known | None = None,
        beside: Values | None = None,
        guidance: Guidance = UNGUIDED,
        forgotten: Forgotten | None = None,
    ) -> Estimator:
        """Returns the function from (x, t) to an `Estimate` that a sampler asks for.

        condition  of `condition`, for the same guidance. All the estimates that this needs are made
                   in one pass over a batch so many times as large.
        extent     valid places of each row, in latents; all by default.
        known      the places that are given (start level 0); none by default.
        beside     further channels, for an objective whose model takes them.
        forgotten  what (x, t) are where nothing is given, for guidance that weighs that.

        `t` may be a scalar or a field without channels.
        """

        def estimate(x: Values, t: Time) -> Estimate:
            field = jnp.asarray(t, float)
            field = field[None, None, None, None] if field.ndim == 0 else field
            field = jnp.broadcast_to(field, (x.shape[0], *field.shape[1:]))
            shown = [(x, field, extent, known, beside)] * (1 + guidance.active)
            if guidance.weighs_given:
                if forgotten is None or known is None:
                    raise ValueError("guidance weighs what is given, and nothing is")
                shown.append((*forgotten(x, field), extent, jnp.zeros_like(known), beside))
            parts = self._estimates(params, condition, shown)
            return guidance(
                parts[0],
                parts[1] if guidance.active else None,
                x,
                field,
                schedule=self.schedule,
                valid=None if extent is None else inside(extent, x.shape[1:4]),
                alone=parts[-1] if guidance.weighs_given else None,
            )

        return estimate

    def _estimates(self, params: Any, condition: Prompt, shown: Sequence[Any]) -> list[Estimate]:
        """Returns the estimate of each batch (x, t, extent, known, beside), made in one pass."""
        x, t, extent, known, beside = jax.tree.map(lambda *rows: jnp.concatenate(rows), *shown)
        output = self._output(params, x, t, condition, extent, known, beside)
        parts = self.prediction.estimate(output, x, t, self.schedule)
        clean, noise = (jnp.split(part, len(shown)) for part in (parts.clean, parts.noise))
        return [Estimate(clean=c, noise=e) for c, e in zip(clean, noise, strict=True)]

    def latent_extent(self, extent: Extent) -> Extent:
        """Returns the extent in latents of one in pixels: a place is valid if any pixel is."""
        frames, height, width = self.factor
        # The first frame is a latent by itself; an empty row stays empty.
        grown = (extent - jnp.array([1, 0, 0])) + jnp.array([frames - 1, height - 1, width - 1])
        places = grown // jnp.array(self.factor) + jnp.array([1, 0, 0])
        return jnp.minimum(extent, places)

    def tokens(self, extent: Extent) -> Int[Array, "batch"]:
        """Returns how many of the model's patches each row has, its extent being in latents."""
        return jnp.prod(token_extent(extent, self.model.patch), axis=1)

    def _errors(
        self, params: Any, keys: Key, batch: Batch, text: Text, levels: Levels
    ) -> tuple[Places, Places]:
        """Returns the error of each place, and its share in the batch, the shares of a row adding
        up to its weight: 0 for rows without a place that counts."""
        clean = _latent(batch)
        noise = normal_rows(keys, clean)
        extent = self.latent_extent(jnp.asarray(batch.extent))
        given = clean
        if batch.spans is not None:
            there = levels.from_spans[:, None, None, None, None] & levels.known[..., None]
            given = jnp.where(there, jnp.asarray(batch.spans, float), clean)
        x, t, beside = self.shown(given, noise, levels)
        prompt = self._read(params, text)
        output = self._output(params, x, t, prompt, extent, levels.known, beside)
        target = self.prediction.target(clean, noise, t, self.schedule)
        error = jnp.mean((output - target) ** 2, axis=-1)
        error *= self.weighting.weight(t, prediction=self.prediction, schedule=self.schedule)
        counts = inside(extent, clean.shape[1:4]) & ~levels.known
        places = jnp.sum(counts, axis=(1, 2, 3), keepdims=True)
        weight = jnp.asarray(batch.weight, float)[:, None, None, None]
        share = counts * ratio(weight, places)
        return jnp.where(share > 0, error, 0), share

    def _output(
        self,
        params: Any,
        x: Latent,
        t: Sigma,
        prompt: Prompt,
        extent: Extent | None,
        known: Known | None,
        beside: Values | None,
    ) -> Latent:
        seen = self.widened(self.schedule.scale_input(x, t), beside)
        variables = {"params": params["model"]}
        output: Any = self.model.apply(
            variables, seen, t, prompt, extent=extent, known=self.flagged(known), method="denoise"
        )
        return self.narrowed(output)

    def shown(
        self, given: Latent, noise: Latent, levels: Levels
    ) -> tuple[Latent, Sigma, Values | None]:
        """Returns what the model is shown in training: noisy latents, their times, more channels.

        given  the clean latents, with those of given frames in their places.
        """
        return self.schedule.mix(given, noise, levels.t), levels.t, None

    def widened(self, x: Values, beside: Values | None) -> Values:
        """Returns what the model takes of latents and further channels: here the latents alone."""
        return x

    def narrowed(self, output: Values) -> Values:
        """Returns the latents in what the model gives."""
        return output

    def flagged(self, known: Known | None) -> Known | None:
        """Returns the given places that the model is told of by their flag."""
        return known

    def _read(self, params: Any, text: Text) -> Prompt:
        length = jnp.asarray(text.length)
        read: Any = self.text.apply({"params": params["text"]}, jnp.asarray(text.tokens), length)
        variables = {"params": params["model"]}
        prompt: Any = self.model.apply(variables, *read, method="read_text")
        return prompt

    def drop_captions(self, text: Text, keys: Key) -> Text:
        """Returns `text` with some captions replaced by the null one, each row by its own key."""
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.caption_dropout))(keys)
        null = self._null(text)
        return Text(
            tokens=jnp.where(dropped[:, None], null.tokens, text.tokens),
            length=jnp.where(dropped, null.length, text.length),
        )

    def _null(self, text: Text) -> Text:
        rows, wanted = text.tokens.shape
        tokens, length = self.text.null(rows)
        if tokens.shape[1] < wanted:
            raise ValueError(
                f"captions of {wanted} tokens, but the null caption of {type(self.text).__name__} "
                f"has {tokens.shape[1]}: tokenise to the length of the text encoder"
            )
        # Beyond its own length the null caption is padding, as in captions cut shorter.
        return Text(tokens=tokens[:, :wanted], length=length)


def _latent(batch: Batch) -> Latent:
    if batch.latent is None:
        raise ValueError(
            "Denoising reads latents, and batch.latent is None: run `sora-jax encode` first and "
            "train on LatentClips"
        )
    return jnp.asarray(batch.latent, float)


def _per_row(key: Key, rows: Int[Array, "batch"]) -> Key:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
