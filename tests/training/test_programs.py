"""The programs of a run, before they are compiled."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from sora_jax.arrays import Batch, Size, Text
from sora_jax.models.dit import DiT
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.loop import run
from sora_jax.training.programs import Prepared
from sora_jax.training.train import Train
from tests.training.test_loop import toy
from tests.training.toy import Points


def batch(size: Size) -> Batch:
    """Abstract."""

    def array(*shape: int, kind: type = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((2, *shape), kind)

    return Batch(
        video=None,
        latent=array(*size, 4),
        extent=array(3, kind=jnp.int32),
        text=Text(tokens=array(8, kind=jnp.int32), length=array(kind=jnp.int32)),
        weight=array(),
    )


def test_a_bucket_may_keep_other_things_for_its_backward_pass() -> None:
    model = DiT(width=16, depth=2, heads=2, mlp=32, latent_channels=4, text_width=8)
    train = Train(
        name="buckets",
        objective=Denoising(
            model=model, text=ByteEncoder(width=8, depth=1, heads=1, length=8), factor=Size(1, 1, 1)
        ),
        data=Points(),
        steps=1,
        remat={"3x4x4": "offload"},
    )
    mesh = Mesh(devices=1)
    devices = mesh.build()
    with mesh.use(devices):
        sizes = Size(1, 4, 4), Size(3, 4, 4)
        prepared = Prepared.of(train, {str(size): batch(size) for size in sizes}, devices)
        programs = {
            name: str(step.trace(prepared.state, prepared.batches[name]).jaxpr).lower()
            for name, step in prepared.steps.items()
        }
    assert "host" in programs["3x4x4"] and "host" not in programs["1x4x4"]


def test_a_bucket_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names 9x9x9, and the buckets are"):
        run(toy(remat={"9x9x9": "full"}), tmp_path, record={})
    with pytest.raises(ValueError, match="Regression has no choice"):
        run(toy(remat={"1x8x8": "full"}), tmp_path, record={})
