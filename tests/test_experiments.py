"""Every experiment at its full size, without computing any of it; and the first one for real."""

from __future__ import annotations

import dataclasses
import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sora_jax
from sora_jax import config
from sora_jax.arrays import Batch, Size, Text
from sora_jax.data.buckets import Bucket
from sora_jax.data.folder import Folder
from sora_jax.description import boxes_of as boxes_of_all
from sora_jax.generation.loading import load
from sora_jax.models import accounting
from sora_jax.models.vae import PRESETS as VAES
from sora_jax.objectives.autoencoding import AT_ONCE, Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.topology import Slice
from sora_jax.stages import run_stages
from sora_jax.training.encoding import Encode
from sora_jax.training.train import Train
from tests.generation.untrained import untrained
from tests.tiny import write_media

ROOT = Path(__file__).parent.parent
FILES = [
    path
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if "experiment = " in path.read_text()
]


def test_there_are_experiments() -> None:
    assert len(FILES) >= 3


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def boxes_of(stage: Any) -> tuple[Bucket, ...]:
    """The buckets of a stage that reads pixels; of those it derives from clips, the largest."""
    buckets = stage.data.buckets
    if isinstance(buckets, tuple):
        return buckets
    side = int(buckets.pixels**0.5)
    return (Bucket(frames=max(buckets.frames), height=side, width=side, batch=2),)


def batches(stage: Train, boxes: tuple[Bucket, ...]) -> list[Batch]:
    objective = stage.objective
    text = stage.data.tokenizer.tokens(["a clip"])
    found = []
    for box in boxes:
        size, video, latent = Size(box.frames, box.height, box.width), None, None
        if isinstance(objective, Autoencoding):
            video = array(box.batch, *size, 3, dtype=jnp.uint8)
        else:
            assert isinstance(objective, Denoising)
            frames, *sides = objective.factor
            grid = 1 + (size.frames - 1) // frames, size.height // sides[0], size.width // sides[1]
            latent = array(box.batch, *grid, objective.channels)
        tokens = array(box.batch, text.tokens.shape[1], dtype=jnp.int32)
        length = array(box.batch, dtype=jnp.int32)
        batch = Batch(
            video=video,
            latent=latent,
            extent=array(box.batch, 3, dtype=jnp.int32),
            text=Text(tokens=tokens, length=length),
            weight=array(box.batch),
        )
        found.append(batch)
    return found


# Models of the worlds, much like one another and of many shapes.
ALIKE = ("given", "mix", "recipe", "small")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in ALIKE else [])
        for path in FILES
    ],
)
def test_full_size_shapes_fit(path: Path) -> None:
    stages = config.read_experiment(path)
    boxes: tuple[Bucket, ...] = ()
    for stage in stages:
        if isinstance(stage, Encode):
            boxes = boxes_of(stage)
        if not isinstance(stage, Train):
            continue
        if hasattr(stage.data, "buckets"):
            boxes = boxes_of(stage)
        shown = batches(stage, boxes)
        objective: Any = stage.objective
        params = jax.eval_shape(objective.init, jax.random.key(0), shown[0])
        for batch in shown:
            loss, metrics = jax.eval_shape(objective.loss, params, jax.random.key(0), batch, 0)
            assert loss.shape == ()
            assert all(value.shape == () for value in metrics.values())


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_experiments_survive_json(path: Path) -> None:
    for stages in (config.read_experiment(path), config.read_experiment(path, smoke=True)):
        for stage in stages:
            assert config.from_json(config.to_json(stage)) == stage


@pytest.mark.slow
def test_the_smoke_of_the_first_experiment_runs(tmp_path: Path) -> None:
    write_media(tmp_path / "media")
    source = Folder(path=str(tmp_path / "media"))

    def elsewhere(stage: Any) -> Any:
        if not hasattr(stage.data, "source"):
            return stage
        return dataclasses.replace(stage, data=dataclasses.replace(stage.data, source=source))

    stages = config.read_experiment(ROOT / "experiments/video/first.py", smoke=True)
    run_stages(tuple(elsewhere(stage) for stage in stages), tmp_path / "run")
    assert (tmp_path / "run/transformer/checkpoints/2").exists()


@pytest.mark.slow
def test_the_smoke_of_the_shipped_model_ends_with_one_that_can_be_given(tmp_path: Path) -> None:
    run_stages(config.read_experiment(ROOT / "experiments/worlds/small.py", smoke=True), tmp_path)
    pipeline = load(tmp_path / "worlds")
    clip = pipeline.generate("a red circle", frames=5, height=32, width=32, steps=1)
    assert clip.frames.shape == (5, 32, 32, 3)


@pytest.mark.slow
def test_every_task_has_its_rows_and_its_sheet(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments/worlds")
    monkeypatch.setattr(sora_jax, "load", lambda _: untrained(frames=33))
    # Three clips, and one step of sampling, guided so that all that is guided is.
    few = ("--scenes", "3", "--steps", "1", "--jobs", "1", "--out", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tasks.py", *few])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "experiments/worlds/tasks.py"), run_name="__main__")
    assert not end.value.code
    found = json.loads((tmp_path / "tasks.json").read_text())["tasks"]
    assert len(found) == 10 and all(task["rows"] and task["sheets"] for task in found.values())
    rows = [row for task in found.values() for row in task["rows"]]
    ceilings = [row["real"][0] for row in rows if row["measure"] in ("seam", "change")]
    assert np.allclose(ceilings, 1, atol=0.02)
    page = (tmp_path / "tasks.md").read_text()
    assert all(f"({sheet})" in page for task in found.values() for sheet in task["sheets"])


@pytest.mark.parametrize("name", ["sora_1_3b", "sora_14b"])
def test_every_stage_can_be_dealt_out_on_the_slices_that_are_listed(name: str) -> None:
    stages = config.read_experiment(str(ROOT / f"experiments/video/{name}.py"))
    slices = {listed for stage in stages for listed in getattr(stage, "meshes", ())}
    boxes, _ = boxes_of_all(stages)
    assert slices
    vae = VAES["wan"](dtype="bfloat16", form="native")
    for chips, listed in ((math.prod(Slice(each).sides), each) for each in slices):
        # Of four chips each.
        hosts = chips // 4
        for stage in stages:
            if isinstance(stage, Train):
                mesh = stage.on(listed).mesh
                ways = chips // (mesh.sequence * mesh.tensor)
                for bucket, rows in boxes[stage.name]:
                    # What sixteen chips of v5e take at once is said in the file.
                    few = listed == "v5e:4x4" and stage.name == "transformer"
                    assert (rows if not few else 16) % ways == 0, (listed, stage.name, bucket)
            elif isinstance(stage, Encode):
                for bucket in stage.data.buckets:
                    held, left = divmod(bucket.batch, hosts)
                    rows = stage.together(held)
                    assert not left and rows % 4 == 0, (listed, bucket)
                    # What a chip encodes at once, beside the clips themselves.
                    frames = min(bucket.frames, AT_ONCE * vae.factor.frames)
                    part = Size(frames, bucket.height, bucket.width)
                    most = accounting.encoding(vae, part, batch=rows // 4).working_bytes
                    assert most < 0.8 * Slice(listed).chip.hbm, (listed, bucket, most / 2**30)


def test_a_budget_of_tokens_makes_batches_other_than_those_of_the_encoding() -> None:
    stages = config.read_experiment(str(ROOT / "experiments/video/sora_1_3b.py"))
    flags = ["--transformer.data.tokens", "537600", "--transformer.data.multiple", "16"]
    budget = config.override(stages, flags, program="test")
    size = Size(81, 480, 832)
    plain, other = (dict(boxes_of_all(these)[0]["transformer"]) for these in (stages, budget))
    assert plain[size] == 64 and other[size] == 16
