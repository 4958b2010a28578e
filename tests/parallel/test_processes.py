"""Several real processes, of four CPU devices each, train what one device trains."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sora_jax.data.latents import LatentClips
from sora_jax.parallel.processes import CODE
from sora_jax.training.metrics import read_lines
from tests.tiny import TEXT

STEPS = 20
ENDED = (CODE, -signal.SIGABRT)
"""How processes end that others have left; tpu_scripts/train.sh starts such ones again."""
EXPERIMENT = """
import dataclasses
import os

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.worlds.source import Worlds
from sora_jax.models.dit import DiT
from sora_jax.models.text import WordEncoder
from sora_jax.parallel.mesh import Mesh
from tests.tiny import stages

SIZES = Size(1, 32, 32), Size(3, 32, 64)
autoencoder, latents, transformer = stages("")
clips = dataclasses.replace(
    autoencoder.data,
    source=Worlds(clips=64, sizes=SIZES),
    buckets=tuple(Bucket(**size._asdict(), batch=8) for size in SIZES),
)
experiment = (
    dataclasses.replace(autoencoder, data=clips, evaluators=(), mesh=Mesh()),
    dataclasses.replace(latents, data=dataclasses.replace(clips, spans=latents.data.spans)),
    dataclasses.replace(
        transformer,
        objective=dataclasses.replace(
            transformer.objective,
            model=DiT(width=32, depth=2, heads=4, mlp=64, latent_channels=4, text_width=8),
            text=WordEncoder(width=8, depth=1, heads=1, length=16),
        ),
        evaluators=transformer.evaluators if "EVALUATED" in os.environ else (),
        mesh=Mesh(),
        steps=20,
        log_every=1,
        save_every=4,
    ),
)
"""
HANGING = """
import jax, time
from sora_jax.data.latents import LatentClips
from sora_jax.data.loader import Loader

ahead = Loader.__next__


def hangs(self):
    self.count = getattr(self, "count", 0) + 1
    if jax.process_index() == 1 and self.count > 2:
        time.sleep(1000)
    return ahead(self)


Loader.__next__ = hangs
"""
FAILING = """
import jax
from sora_jax.data.loader import Loader

ahead = Loader.__next__


def fails(self):
    self.count = getattr(self, "count", 0) + 1
    if jax.process_index() == {victim} and self.count > 2:
        raise {error}("it was asked to")
    return ahead(self)


Loader.__next__ = fails
"""
DYING = """
import os, signal
import jax
from sora_jax.parallel import processes

waits = processes.wait_for_all


def dies(what):
    if what == "{at}" and jax.process_index() == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
    waits(what)


processes.wait_for_all = dies
"""
MESHES = {
    "fsdp": {"fsdp": 8, "data": 1},
    "fsdp x tensor": {"fsdp": 2, "tensor": 4, "data": 1},
    "data x sequence, all-to-all": {"data": 2, "sequence": 4, "across": "ulysses"},
    "data x sequence, ring": {"data": 2, "sequence": 4, "across": "ring"},
    "a sequence over both": {"data": 1, "sequence": 8, "across": "ring"},
}

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def running(
    folder: Path,
    *flags: str,
    processes: int,
    environment: dict[str, str],
    program: Sequence[str] = ("-m", "sora_jax", "train", "experiment.py"),
) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes of one run, which are ended at the end if they still are there."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "4",
        "PYTHONPATH": str(Path.cwd()),
        **environment,
    }
    together = ("--coordinator", f"localhost:{port}", "--processes", str(processes))
    started = [
        subprocess.Popen(
            [sys.executable, *program, "--out", str(folder), *flags]
            + ([*together, "--process", str(index)] if processes > 1 else []),
            cwd=folder.parent,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=(folder.parent / f"{folder.name}.{index}.log").open("w"),
            text=True,
        )
        for index in range(processes)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def train(folder: Path, *flags: str, processes: int = 1, **environment: str) -> None:
    """Trains to the end."""
    with running(folder, *flags, processes=processes, environment=environment) as started:
        for index, each in enumerate(started):
            code = each.wait(timeout=300)
            assert code == 0, (folder.parent / f"{folder.name}.{index}.log").read_text()[-3000:]


def mesh_flags(**mesh: Any) -> list[str]:
    across = mesh.pop("across", None)
    flags = [f"--transformer.mesh.{axis}={size}" for axis, size in mesh.items()]
    return flags + ([f"--transformer.objective.model.attention.across={across}"] if across else [])


ONE = mesh_flags(devices=1)


def losses(folder: Path) -> list[float]:
    lines = read_lines(folder / "transformer")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: Any) -> Path:
    """A run whose autoencoder was trained, and whose latents were encoded, by two processes."""
    folder = tmp_path_factory.mktemp("processes") / "encoded"
    (folder.parent / "experiment.py").write_text(EXPERIMENT)
    train(folder, "--until", "latents", processes=2)
    return folder


def copied(encoded: Path, name: str) -> Path:
    return shutil.copytree(encoded, encoded.parent / name)


@pytest.fixture(scope="module")
def one(encoded: Path) -> list[float]:
    """The losses of one process with one device."""
    folder = copied(encoded, "one")
    train(folder, *ONE)
    assert len(losses(folder)) == STEPS
    return losses(folder)


def test_two_processes_encode_what_one_does(encoded: Path):
    alone = encoded.parent / "alone"
    train(alone, "--until", "latents")
    two, single = (contents(folder / "latents") for folder in (encoded, alone))
    assert two.keys() == single.keys() and len(two) == 64
    for name, latent in two.items():
        np.testing.assert_allclose(latent, single[name], atol=1e-2)


def contents(folder: Path) -> dict[str, Any]:
    content: Any = LatentClips(path=str(folder), tokenizer=TEXT, workers=0).open().content
    records = [content.read(index) for index in range(len(content.names))]
    return {f"{record.name} {record.start}": record.latent for record in records}


@pytest.mark.parametrize("name", MESHES)
def test_losses_are_those_of_one_device(encoded: Path, one: list[float], name: str):
    folder = copied(encoded, name)
    train(folder, *mesh_flags(**MESHES[name]), processes=2)
    assert losses(folder) == pytest.approx(one, rel=1e-4)


def test_evaluators_measure_and_draw_among_processes_what_they_do_in_one(encoded: Path):
    values = []
    for processes, flags in ((1, ONE), (2, mesh_flags(fsdp=2, tensor=2, sequence=2, data=1))):
        folder = copied(encoded, f"evaluated by {processes}")
        train(folder, *flags, "--transformer.steps=2", processes=processes, EVALUATED="1")
        assert (folder / "transformer/samples/0000002.png").exists()
        values.append(read_lines(folder / "transformer")[-1]["validation/mean"])
    assert values[1] == pytest.approx(values[0], rel=1e-4)


@pytest.fixture(scope="module")
def one_in_double(encoded: Path) -> list[float]:
    """The losses of one process with one device, in double precision."""
    folder = copied(encoded, "one in double")
    train(folder, *ONE, JAX_ENABLE_X64="1")
    return losses(folder)


@pytest.mark.parametrize("name", MESHES)
def test_in_double_precision_losses_are_the_same(
    encoded: Path, one_in_double: list[float], name: str
):
    folder = copied(encoded, f"{name} in double")
    train(folder, *mesh_flags(**MESHES[name]), processes=2, JAX_ENABLE_X64="1")
    assert losses(folder) == pytest.approx(one_in_double, rel=1e-8)


def test_a_killed_process_ends_the_others_and_the_run_goes_on_with_as_many_or_fewer(
    encoded: Path, one: list[float]
):
    folder, random = copied(encoded, "killed"), np.random.default_rng(0)
    flags = mesh_flags(fsdp=4, data=-1)
    for victim in (1, 0):
        until = len(losses(folder)) + int(random.integers(2, 7))
        with running(folder, *flags, processes=2, environment={}) as started:
            while len(read_lines(folder / "transformer")) < until:
                assert all(each.poll() is None for each in started)
                time.sleep(0.05)
            started[victim].send_signal(signal.SIGKILL)
            assert started[1 - victim].wait(timeout=60) in ENDED
    train(folder, *flags)
    assert losses(folder) == pytest.approx(one, rel=1e-4)


def test_a_notice_to_one_of_two_processes_stops_both_whenever_it_comes(
    encoded: Path, one: list[float]
):
    folder, flags = copied(encoded, "noticed"), mesh_flags(fsdp=4, data=-1)
    log = encoded.parent / "noticed.1.log"
    # During the steps; and, of a run that goes on, before the first of them.
    for due, told in (
        (lambda: len(read_lines(folder / "transformer")) > 4, signal.SIGTERM),
        (lambda: "process 1 of 2" in log.read_text(), signal.SIGTERM),
        # Ctrl-C, which all of a terminal get: one in this stage, another in that or between them.
        (lambda: "autoencoder: going on from step" in log.read_text(), signal.SIGINT),
    ):
        with running(folder, *flags, processes=2, environment={}) as started:
            while not due():
                assert all(each.poll() is None for each in started)
                time.sleep(0.05)
            for each in started if told == signal.SIGINT else started[1:]:
                each.send_signal(told)
            assert [each.wait(timeout=120) for each in started] == 2 * [CODE]
    assert 4 < len(losses(folder)) < STEPS
    train(folder, *flags, processes=2)
    assert losses(folder) == pytest.approx(one, rel=1e-4)


def test_a_part_of_a_checkpoint_that_one_process_cannot_read_is_read_by_none(
    encoded: Path, one: list[float]
):
    folder, flags = copied(encoded, "damaged"), mesh_flags(fsdp=8, data=1)
    train(folder, *flags, processes=2)
    newest = folder / f"transformer/checkpoints/{STEPS}/params"
    parts = list(newest.glob("ocdbt.process_1/d/*"))
    assert parts
    for part in parts:
        part.write_bytes(part.read_bytes()[:10])
    train(folder, *flags, processes=2)
    assert (folder / f"transformer/checkpoints/damaged-{STEPS}").exists()
    assert losses(folder) == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(
    ("error", "codes"), [("ValueError", (1,)), ("KeyError", (1,)), ("OSError", ENDED)]
)
def test_what_starting_again_does_not_mend_ends_both_for_good(
    encoded: Path, victim: int, error: str, codes: tuple[int, ...]
):
    name = f"{error} in {victim}"
    folder, experiment = copied(encoded, name), encoded.parent / "experiment.py"
    experiment.write_text(EXPERIMENT + FAILING.format(victim=victim, error=error))
    with running(folder, *mesh_flags(fsdp=4, data=-1), processes=2, environment={}) as started:
        ended = [each.wait(timeout=200) for each in started]
    experiment.write_text(EXPERIMENT)
    assert all(code in codes for code in ended)
    if codes == (1,):
        told = (encoded.parent / f"{name}.{1 - victim}.log").read_text()
        assert "another process has ended, so does this one: " in told
        assert "it was asked to" in told


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(
    ("at", "until"), [("transformer: compiled", "transformer"), ("latents: encoded", "latents")]
)
def test_one_that_dies_where_no_steps_are_taken_has_the_other_start_again(
    encoded: Path, at: str, until: str, victim: int
):
    folder, experiment = copied(encoded, f"dies {until} {victim}"), encoded.parent / "experiment.py"
    experiment.write_text(EXPERIMENT + DYING.format(at=at, victim=victim))
    flags = (*mesh_flags(fsdp=4, data=-1), "--until", until)
    with running(folder, *flags, processes=2, environment={}) as started:
        assert started[1 - victim].wait(timeout=120) in ENDED
    experiment.write_text(EXPERIMENT)


def test_a_run_goes_on_with_another_mesh_and_another_way_to_share_clips(
    encoded: Path, one: list[float]
):
    folder = copied(encoded, "meshes in turn")
    kept = "--transformer.objective.model.remat=full"
    for until, flags in (
        (4, mesh_flags(data=1, fsdp=8)),
        (10, [*mesh_flags(data=2, sequence=4, across="ring"), kept]),
    ):
        with running(folder, *flags, processes=2, environment={}) as started:
            while len(read_lines(folder / "transformer")) < until:
                assert all(each.poll() is None for each in started)
                time.sleep(0.05)
            started[1].send_signal(signal.SIGTERM)
            assert [each.wait(timeout=120) for each in started] == 2 * [CODE]
        assert until <= len(losses(folder)) < STEPS
    train(folder, *mesh_flags(data=1, fsdp=2, tensor=4), processes=2)
    assert losses(folder) == pytest.approx(one, rel=1e-4)


def test_a_process_that_hangs_ends_the_others_with_a_message(encoded: Path):
    folder, experiment = copied(encoded, "hanging"), encoded.parent / "experiment.py"
    experiment.write_text(EXPERIMENT + HANGING)
    began = time.monotonic()
    with running(folder, *mesh_flags(fsdp=4, data=-1), processes=2, environment={}) as started:
        while not read_lines(folder / "transformer"):
            assert time.monotonic() < began + 300
            time.sleep(0.1)
        assert started[0].wait(timeout=70) == CODE
        assert started[1].wait(timeout=60) in ENDED
    experiment.write_text(EXPERIMENT)
    assert "one of them hangs" in (encoded.parent / "hanging.0.log").read_text()


def test_a_process_that_hangs_in_encoding_ends_and_so_do_the_others(encoded: Path):
    folder, experiment = copied(encoded, "encoding hangs"), encoded.parent / "experiment.py"
    shutil.rmtree(folder / "latents")
    experiment.write_text(EXPERIMENT + HANGING)
    flags = ("--until", "latents", "--latents.patience=2")
    with running(folder, *flags, processes=2, environment={}) as started:
        assert started[1].wait(timeout=120) == CODE
        assert started[0].wait(timeout=60) in ENDED
    experiment.write_text(EXPERIMENT)
    assert "to be read: it hangs" in (encoded.parent / "encoding hangs.1.log").read_text()
    train(folder, "--until", "latents", processes=2)
    assert contents(folder / "latents").keys() == contents(encoded / "latents").keys()
