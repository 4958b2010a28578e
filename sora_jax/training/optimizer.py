"""Optimisers as values: what an experiment says, and the optax transformation it stands for."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib

_RMS = 0.2
"""Root mean square of AdamW's updates, which Muon's are scaled to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays after its warm-up."""

    def after_warmup(self, rate: float, steps: int) -> optax.Schedule:
        """The schedule over the `steps` that follow the warm-up."""
        del steps
        return optax.constant_schedule(rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine:
    """The learning rate falls along half a cosine to `final` of its peak (arXiv 1608.03983)."""

    final: float = 0.1

    def after_warmup(self, rate: float, steps: int) -> optax.Schedule:
        """The schedule over the `steps` that follow the warm-up."""
        return optax.cosine_decay_schedule(rate, max(steps, 1), alpha=self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW (arXiv 1711.05101) with warm-up, a schedule and clipping by global norm.

    `epsilon` is far below the usual 1e-8: with normalised queries and keys gradients are small, and
    a larger one would act as a hidden cut of the learning rate.
    """

    learning_rate: float = 1e-3
    warmup: int = 100
    """Steps of linear warm-up from 0."""
    schedule: Constant | Cosine = Cosine()
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-12
    weight_decay: float = 0.01
    """Applied to kernels and embeddings only; never to biases, norms and tables."""
    clip: float = 1.0
    """Largest global norm of a gradient."""
    moments: Literal["float32", "bfloat16", "factored"] = "float32"
    """How they are kept. bfloat16: the first in 16 bits; factored: besides, the second of a matrix
    as the means of its rows and columns (Adafactor, arXiv 1804.04235, with the paper's own decay
    and epsilon instead of `beta2` and `epsilon`), a quarter of the memory in all; matrices with a
    side below 128 are kept whole. Muon has the first alone."""
    muon: float | None = None
    """Update the kernels of stacked layers by Muon instead (arXiv 2502.16982), their momentum made
    orthogonal, at so many times the learning rate. At 1 updates are as large as AdamW's usually
    are; orthogonal ones may be several times as large."""
    apart: dict[str, float] = dataclasses.field(default_factory=dict)
    """Groups of parameters clipped on their own, with a factor on their learning rate: players of
    a game whose gradients must not scale one another, such as {"discriminator": 1.0}."""

    def __post_init__(self) -> None:
        if self.muon is not None and not self.muon > 0:
            raise ValueError(f"muon is {self.muon}; give a factor above 0, or None for AdamW alone")

    def rate(self, steps: int) -> optax.Schedule:
        """The learning rate over a run of `steps` updates."""
        warmup = min(self.warmup, steps // 2)
        after = self.schedule.after_warmup(self.learning_rate, steps - warmup)
        ramp = optax.linear_schedule(0.0, self.learning_rate, max(warmup, 1))
        # The first update is at a rate above 0, or it would be wasted.
        ramp_from_one = lambda count: ramp(count + 1)  # noqa: E731
        return optax.join_schedules([ramp_from_one, after], [warmup]) if warmup else after

    def build(self, steps: int) -> optax.GradientTransformation:
        """Returns the transformation for a run of `steps` updates."""
        rate = self.rate(steps)

        def one(factor: float) -> optax.GradientTransformation:
            own = lambda count: factor * rate(count)  # noqa: E731
            adamw = self._adamw(own)
            if self.muon is None:
                return optax.chain(optax.clip_by_global_norm(self.clip), adamw)
            times = self.muon
            muon = optax.contrib.muon(
                lambda count: times * own(count),
                weight_decay=self.weight_decay / times,
                mu_dtype=self._first,
                consistent_rms=_RMS,
                muon_weight_dimension_numbers=_matrices,
            )
            rules = optax.partition({"adamw": adamw, "muon": muon}, stacked_kernels)
            return optax.chain(optax.clip_by_global_norm(self.clip), rules)

        if not self.apart:
            return one(1.0)
        return optax.partition(
            {"rest": one(1.0), **{name: one(factor) for name, factor in self.apart.items()}},
            self._labels,
        )

    @property
    def moment_bytes(self) -> int:
        """Bytes that are kept of each parameter, but for the means of rows and columns; at most, as
        Muon keeps less."""
        return {"float32": 8, "bfloat16": 6, "factored": 2}[self.moments]

    @property
    def _first(self) -> Any:
        """The type of the first moment; None is that of the parameters."""
        return None if self.moments == "float32" else jnp.bfloat16

    def _adamw(self, rate: optax.Schedule) -> optax.GradientTransformation:
        if self.moments != "factored":
            return optax.adamw(
                rate,
                b1=self.beta1,
                b2=self.beta2,
                eps=self.epsilon,
                mu_dtype=self._first,
                weight_decay=self.weight_decay,
                mask=decayed,
            )
        return optax.chain(
            optax.scale_by_factored_rms(),
            # Of the paper's section 6: what the factors underestimate must not explode.
            optax.clip_by_block_rms(1.0),
            optax.ema(self.beta1, debias=True, accumulator_dtype=self._first),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
            optax.scale_by_learning_rate(rate),
        )

    def _labels(self, params: Any) -> Any:
        return {
            group: jax.tree.map(
                lambda _, label=group if group in self.apart else "rest": label, tree
            )
            for group, tree in params.items()
        }


def stacked_kernels(params: Any) -> Any:
    """Returns each parameter's rule: "muon" for the kernels of stacked layers, else "adamw"."""

    def rule(path: tuple[Any, ...], _: Any) -> str:
        names = _names(path)
        return "muon" if "layers" in names and "kernel" in names else "adamw"

    return jax.tree_util.tree_map_with_path(rule, params)


def _matrices(params: Any) -> Any:
    """All of what Muon sees are kernels [layers, in, out]."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    return jax.tree.map(lambda _: matrix, params)


def _names(path: tuple[Any, ...]) -> list[str]:
    return [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]


def decayed(params: Any) -> Any:
    """Returns which parameters weight decay applies to: those named kernel or embedding."""

    def is_matrix(path: tuple[Any, ...], _: Any) -> bool:
        return not {"kernel", "embedding"}.isdisjoint(_names(path))

    return jax.tree_util.tree_map_with_path(is_matrix, params)
