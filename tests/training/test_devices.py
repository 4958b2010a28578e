"""The real objectives on eight devices, through the real loop: as on one, and for several steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import pytest

from sora_jax.parallel.mesh import Mesh
from sora_jax.stages import run_stages
from sora_jax.training.metrics import read_lines
from tests.tiny import stages, write_media


@pytest.mark.slow
def test_both_trainings_and_the_encoding_give_on_four_devices_what_they_give_on_one(
    tmp_path: Path,
) -> None:
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices (tests/conftest.py asks for virtual ones)")
    write_media(tmp_path / "media")
    losses = {}
    for name, mesh in (
        ("one", Mesh(devices=1)),
        ("four", Mesh(fsdp=2, tensor=2, data=1, devices=4)),
    ):
        plain = (
            dataclasses.replace(stage, mesh=mesh, **({} if name_of(stage) else {"evaluators": ()}))
            for stage in stages(tmp_path / "media")
        )
        run_stages(tuple(plain), tmp_path / name)
        losses[name] = [
            line["loss"]
            for stage in ("autoencoder", "transformer")
            for line in read_lines(tmp_path / name / stage)
        ]
    assert losses["four"] == pytest.approx(losses["one"], rel=1e-4)


def name_of(stage: object) -> bool:
    """Whether the stage has no evaluators: the one that encodes."""
    return not hasattr(stage, "evaluators")
