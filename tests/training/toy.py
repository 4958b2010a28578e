"""The smallest objective and data that the loop can train: a line through points."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.arrays import ALL_ROWS, Batch, Share, Text


class Loaded(NamedTuple):
    """One step's batch."""

    bucket: str
    batch: Batch
    failed: Mapping[str, str]


class Ended:
    """A loader over a generator."""

    def __init__(self, batches: Iterator[Loaded]):
        self._batches = batches

    def __next__(self) -> Loaded:
        return next(self._batches)

    def close(self) -> None:
        """Nothing to end."""


def batch_of(seed: int, *, rows: int, width: int) -> Batch:
    """Random latents of two sizes stand in for two buckets."""
    random = np.random.default_rng(seed)
    return Batch(
        video=None,
        latent=random.normal(size=(rows, 1, 1, width, 2)).astype(np.float32),
        extent=np.tile(np.array([[1, 8, 8 * width]], np.int32), (rows, 1)),
        text=Text(tokens=np.zeros((rows, 1), np.int32), length=np.ones((rows,), np.int32)),
        weight=np.ones((rows,), np.float32),
    )


class Line(nn.Module):
    """A linear map with named axes."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        kernel = nn.with_logical_partitioning(nn.initializers.normal(), ("embed", "mlp"))
        return nn.with_logical_constraint(
            x @ self.param("kernel", kernel, (2, 8)), ("batch", None, None, None, "activation_mlp")
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression:
    """Learns to predict the first channel from both; noisy, so that keys matter."""

    poison_from: int | None = None
    """From this step on the loss is NaN."""

    def init(self, key: Any, batch: Batch) -> Any:
        return {"line": Line().init(key, batch.latent)["params"]}

    def loss(self, params: Any, key: Any, batch: Batch, step: Any) -> tuple[Any, dict[str, Any]]:
        x = batch.latent + 0.1 * jax.random.normal(key, batch.latent.shape)
        error = Line().apply({"params": params["line"]}, x) - batch.latent[..., :1]
        loss = jnp.mean(error**2)
        if self.poison_from is not None:
            loss = jnp.where(step >= self.poison_from, jnp.nan, loss)
        return loss, {"error/sum": jnp.abs(error).sum(), "error/count": jnp.float32(error.size)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """Two buckets, in turn; `failing` names a clip that fails at every third step."""

    seed: int = 0
    rows: int = 8
    failing: str | None = None

    def open(self) -> Points:
        return self

    @property
    def shapes(self) -> Mapping[str, Batch]:
        return {f"1x8x{8 * w}": batch_of(0, rows=self.rows, width=w) for w in (1, 2)}

    @property
    def fingerprint(self) -> str:
        return f"points {self.seed}"

    fps = 8.0

    @property
    def artifacts(self) -> Mapping[str, str]:
        return {}

    def check(self, objective: Any) -> None:
        """Any objective will do."""

    def loader(self, *, start: int = 0, share: Share = ALL_ROWS) -> Ended:
        del share
        return Ended(self.batches(start))

    def batches(self, step: int) -> Iterator[Loaded]:
        while True:
            width = 1 + step % 2
            batch = batch_of(self.seed + step, rows=self.rows, width=width)
            failed = {self.failing: "damaged"} if self.failing and step % 3 == 0 else {}
            yield Loaded(bucket=f"1x8x{8 * width}", batch=batch, failed=failed)
            step += 1
