"""A run that is killed twenty times at random moments, by one process or two."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from sora_jax.checkpoint import read_params
from sora_jax.training.metrics import read_lines
from tests.parallel.test_processes import running

KILLS, CLIPS, EPOCHS = 20, 64, 100
PROGRAM = f"""
import argparse
import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.pipeline import Clips
from sora_jax.parallel.mesh import Mesh
from sora_jax.parallel.processes import join
from sora_jax.training.loop import run
from sora_jax.training.train import Train
from tests.data.fake import Fake


@dataclasses.dataclass(frozen=True)
class Counts:
    '''Its parameters are how often each clip was trained on: a pixel tells which clip it is.'''

    vae = SimpleNamespace(factor=Size(4, 8, 8))

    def init(self, key, batch):
        return {{"seen": {{"times": jnp.zeros({CLIPS})}}}}

    def loss(self, params, key, batch, step):
        clip = batch.video[:, 0, 0, 0, 0].astype(int) - 1
        seen = jax.nn.one_hot(clip, {CLIPS}) * batch.weight[:, None]
        return -(seen.sum(0) * params["seen"]["times"]).sum(), {{}}


@dataclasses.dataclass(frozen=True)
class Adding:
    '''Adds the negative gradient.'''

    def build(self, steps):
        return optax.sgd(1.0)

    def rate(self, steps):
        return optax.constant_schedule(1.0)


experiment = Train(
    name="counted",
    objective=Counts(),
    data=Clips(
        source=Fake(sizes=((1, 16, 16),) * {CLIPS}),
        buckets=(Bucket(frames=1, height=16, width=16, batch=8),),
        tokenizer=Bytes(length=4),
        workers=1,
    ),
    optimizer=Adding(),
    steps={EPOCHS * CLIPS // 8},
    ema=0.5,
    log_every=1,
    save_every=1,
    mesh=Mesh(data=1, fsdp=-1),
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    given = parser.parse_args()
    if given.coordinator:
        join(given.coordinator, given.processes, given.process)
    run(experiment, given.out, record={{}})
"""

pytestmark = pytest.mark.slow


def newest(folder: Path) -> int:
    steps = [int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdigit()]
    return max(steps, default=0)


def test_whatever_is_killed_when_the_weights_have_seen_each_clip_as_often(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    folder, random = tmp_path / "run", np.random.default_rng(0)
    kept = 0
    for kill in range(KILLS):
        lines = len(read_lines(folder))
        # Every fifth ends before it has begun.
        until = lines + 1 if kill % 5 else 0
        processes = int(random.integers(1, 3))
        with running(
            folder, processes=processes, environment={}, program=["program.py"]
        ) as started:
            while len(read_lines(folder)) < until:
                assert all(each.poll() is None for each in started), log(folder)
                time.sleep(0.02)
            time.sleep(random.uniform(0.0, 2.0))
            assert all(each.poll() is None for each in started), log(folder)
            # Now all, now one, whose death the other hears of: perhaps while it writes. (Before it
            # has begun it would wait for the dead one to join.)
            killed = random.permutation(started)[: 1 if until and kill % 2 else None]
            for each in killed:
                each.send_signal(signal.SIGKILL)
            for each in started:
                each.wait(timeout=120)
        assert newest(folder) >= kept, "a checkpoint that was there is none any more"
        kept = newest(folder)
    assert 0 < kept < EPOCHS * CLIPS // 8
    with running(folder, processes=1, environment={}, program=["program.py"]) as (last,):
        assert last.wait(timeout=300) == 0, log(folder)
    assert not list(folder.glob("checkpoints/damaged*"))
    final = epath.Path(folder) / f"checkpoints/{newest(folder)}"
    counts = jax.ShapeDtypeStruct((CLIPS,), np.float32)
    params = read_params(final, {"seen": {"times": counts}}, item="params")
    np.testing.assert_array_equal(params["seen"]["times"], np.full(CLIPS, EPOCHS))


def log(folder: Path) -> str:
    return (folder.parent / "run.0.log").read_text()[-3000:]
