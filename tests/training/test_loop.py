"""Promises of the training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath
from jax.experimental import multihost_utils

from sora_jax.checkpoint import CheckpointError, Checkpoints
from sora_jax.parallel.mesh import Mesh, MeshError
from sora_jax.training import metrics
from sora_jax.training.loop import TrainingStopped, run
from sora_jax.training.metrics import read_lines
from sora_jax.training.optimizer import AdamW, Constant
from sora_jax.training.preemption import Preempted
from sora_jax.training.protocols import Loaded
from sora_jax.training.state import initializer
from sora_jax.training.step import training_step
from sora_jax.training.train import Train
from tests.training.toy import Points, Regression, batch_of

FLAT = AdamW(learning_rate=1e-2, warmup=0, schedule=Constant())
"""Does not depend on how long the run is to be."""


def toy(**changes: Any) -> Train:
    settings: dict[str, Any] = {
        "name": "toy",
        "objective": Regression(),
        "data": Points(),
        "optimizer": AdamW(learning_rate=1e-2, warmup=2),
        "mesh": Mesh(devices=1),
        "steps": 6,
        "log_every": 2,
        "save_every": 3,
    }
    return Train(**(settings | changes))


class Wider(Regression):
    """Has parameters that `Regression` has not."""

    def init(self, key: Any, batch: Any) -> Any:
        return super().init(key, batch) | {"more": np.zeros(3, np.float32)}


def leaves(state: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def test_training_learns_and_reports(tmp_path: Path):
    state = run(toy(steps=200, log_every=10, save_every=400), tmp_path, record={})
    lines = read_lines(tmp_path)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {"loss/1x8x8", "loss/1x8x16", "error", "clips_per_second", "waiting_share"} <= set(
        lines[-1]
    )
    assert int(state.step) == 200


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path):
    run(toy(steps=3, optimizer=FLAT), tmp_path / "half", record={})
    straight = run(toy(steps=6, optimizer=FLAT), tmp_path / "straight", record={})
    resumed = run(toy(steps=6, optimizer=FLAT), tmp_path / "half", record={})
    assert same(resumed, straight)


def test_a_run_may_start_from_the_averaged_parameters_of_another(tmp_path: Path):
    first = run(toy(steps=50, ema=0.9), tmp_path / "first", record={})
    still = AdamW(learning_rate=1e-9, warmup=0, weight_decay=0.0)
    later = toy(steps=2, start=str(tmp_path / "first"), optimizer=still, ema=0.5)
    state = run(later, tmp_path / "later", record={})
    assert int(state.step) == 2
    for name in ("params", "ema"):
        for old, new in zip(leaves(first.ema), leaves(getattr(state, name)), strict=True):
            np.testing.assert_allclose(new, old, atol=1e-7)
    assert not same(first.params, first.ema), "the average must differ for this to show anything"


def test_a_start_with_other_parameters_is_refused_by_name(tmp_path: Path):
    with pytest.raises(CheckpointError, match="nowhere holds no checkpoints"):
        run(toy(start=str(tmp_path / "nowhere")), tmp_path / "a", record={})
    run(toy(steps=1), tmp_path / "line", record={})
    wider = toy(objective=Wider(), start=str(tmp_path / "line"))
    with pytest.raises(CheckpointError, match=r"toy: start=.*no parameters of this objective"):
        run(wider, tmp_path / "b", record={})


def test_a_finished_run_is_left_alone(tmp_path: Path):
    first = run(toy(), tmp_path, record={})
    again = run(toy(), tmp_path, record={})
    assert same(first, again)


KILLED = """
import os, signal, sys
from tests.training.test_loop import toy
from tests.training.toy import Points
from sora_jax.training import loop
import sora_jax.training.loop as L

class Deadly(Points):
    def batches(self, start):
        for n, loaded in enumerate(super().batches(start)):
            if n == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield loaded

L.run(toy(steps=12, data=Deadly(), save_every=4), sys.argv[1], record={})
"""


@pytest.mark.parametrize(
    "kills", [("5",), pytest.param(("5", "3", "1"), marks=pytest.mark.slow)], ids=len
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(
    tmp_path: Path, kills: tuple[str, ...]
):
    whole = run(toy(steps=12, save_every=4), tmp_path / "whole", record={})
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path.cwd())}
    for batches in kills:
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "killed"), batches],
            env=environment,
            capture_output=True,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    resumed = run(toy(steps=12, save_every=4), tmp_path / "killed", record={})
    assert same(whole, resumed)
    steps = [line["step"] for line in read_lines(tmp_path / "killed")]
    assert steps == sorted(set(steps))


def test_eight_devices_give_the_losses_of_one(tmp_path: Path):
    if jax.device_count() < 8:
        pytest.skip("needs 8 virtual CPU devices (tests/conftest.py asks for them)")
    eight = Mesh(data=2, fsdp=2, tensor=2)
    run(toy(mesh=eight), tmp_path / "eight", record={})
    run(toy(mesh=Mesh(devices=1)), tmp_path / "one", record={})
    many, one = read_lines(tmp_path / "eight"), read_lines(tmp_path / "one")
    for a, b in zip(many, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_steps_without_a_finite_gradient_change_nothing_and_then_stop_the_run(tmp_path: Path):
    before = run(toy(objective=Regression(poison_from=3), steps=3), tmp_path, record={})
    after = run(toy(objective=Regression(poison_from=3), steps=5), tmp_path, record={})
    assert same(
        (before.params, before.ema, before.moments), (after.params, after.ema, after.moments)
    )
    assert (int(before.skipped), int(after.skipped), int(after.step)) == (0, 2, 5)
    lines = read_lines(tmp_path)
    # The means are of the steps that were finite; there was none after the third.
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert "error" in lines[0] and "loss" not in lines[-1]
    with pytest.raises(TrainingStopped, match="4 steps in a row"):
        run(
            toy(objective=Regression(poison_from=3), steps=20, skips_allowed=4), tmp_path, record={}
        )


def test_a_clip_that_cannot_be_read_is_counted_and_named_once(tmp_path: Path, caplog: Any):
    with caplog.at_level(logging.WARNING, "sora_jax"):
        run(toy(data=Points(failing="bad.mp4"), log_every=6), tmp_path, record={})
    assert sum("bad.mp4" in record.getMessage() for record in caplog.records) == 1
    assert read_lines(tmp_path)[-1]["unreadable"] == 2


def test_each_bucket_is_compiled_once(tmp_path: Path, caplog: Any):
    with caplog.at_level(logging.WARNING, "jax"), jax.log_compiles():
        run(toy(), tmp_path, record={})
    compiled = [each for each in caplog.messages if "Compiling jit(step)" in each]
    assert len(compiled) == read_lines(tmp_path)[-1]["compiled"] == 2


class Leaving(Points):
    """The machine's end is announced while the fourth batch is read."""

    def batches(self, step: int) -> Iterator[Loaded]:
        for number, loaded in enumerate(super().batches(step)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield loaded


def test_a_notice_of_the_machine_s_end_saves_the_step_and_asks_to_be_started_again(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as ended:
        run(toy(steps=12, data=Leaving(), save_every=9), tmp_path / "cut", record={})
    assert ended.value.code == 75 and signal.getsignal(signal.SIGTERM) is before
    assert Checkpoints(tmp_path / "cut").latest() == 4
    resumed = run(toy(steps=12, save_every=9), tmp_path / "cut", record={})
    assert same(resumed, run(toy(steps=12, save_every=9), tmp_path / "whole", record={}))


def test_saving_never_asks_for_a_notice_by_the_step_s_number(tmp_path: Path, monkeypatch: Any):
    # It would set the count on which several processes agree when to stop (`preemption`).
    asked: list[int] = []

    def counted(step: int) -> bool:
        asked.append(step)
        return False

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", counted)
    run(toy(steps=4, save_every=2), tmp_path, record={})
    assert Checkpoints(tmp_path).latest() == 4 and not asked


@pytest.mark.slow
def test_steps_are_profiled_for_tensorboard(tmp_path: Path):
    run(toy(), tmp_path / "whole", record={}, profile=(2, 3))
    # One that goes on within these steps, and ends before the last of them.
    run(toy(steps=2), tmp_path / "resumed", record={})
    run(toy(steps=4), tmp_path / "resumed", record={}, profile=(2, 30))
    for name in ("whole", "resumed"):
        assert list((tmp_path / name).glob("profile/plugins/profile/*/*.xplane.pb"))


def test_a_profile_that_cannot_be_written_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "profile").write_text("no folder")
    state = run(toy(), tmp_path, record={}, profile=(2, 3))
    assert int(state.step) == Checkpoints(tmp_path).latest() == 6
    assert "the profile cannot be written" in caplog.text


def test_where_nothing_can_be_appended_metrics_are_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    writer = metrics.Writer(epath.Path(tmp_path), start=0)
    # As if the folder were on gs://.
    writer._remote = True
    written = []
    for step, between in ((1, 1e9), (2, 1e9), (3, -1.0), (4, 1e9)):
        monkeypatch.setattr(metrics, "_BETWEEN", between)
        writer.write(step, {"loss": 1.0})
        written.append(len(read_lines(tmp_path)))
    assert written == [0, 0, 3, 3]
    writer.close()
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 2, 3, 4]


RESTARTED = """
import logging, sys
from pathlib import Path
from sora_jax.training.loop import run
from sora_jax.training.programs import keep_in
from tests.training.test_loop import toy, FLAT
logging.basicConfig(level="INFO", format="%(message)s", force=True)
folder = Path(sys.argv[1])
keep_in(folder / "programs", least=0.0)
run(toy(steps=int(sys.argv[2]), optimizer=FLAT), folder, record={})
"""


@pytest.mark.slow
def test_a_restarted_run_finds_what_was_compiled_and_compiles_nothing(tmp_path: Path):
    told = []
    for steps in ("2", "4"):
        ended = subprocess.run(
            [sys.executable, "-c", RESTARTED, str(tmp_path), steps],
            env={k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"},
            capture_output=True,
            text=True,
            check=True,
        )
        told += [line for line in ended.stderr.splitlines() if "found in the cache" in line]
    assert "2 compiled, 0 found in the cache" in told[0]
    assert "0 compiled, 2 found in the cache" in told[1]
    assert len(told) == 2


class Interrupting:
    """An evaluator during which the user presses Ctrl-C, at step 2."""

    every = 1

    def __call__(self, objective: Any, params: Any, *, step: int, **where: Any) -> dict[str, float]:
        if step == 2:
            raise KeyboardInterrupt
        return {}


def test_an_interrupted_run_keeps_its_last_step(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        run(toy(evaluators=(Interrupting(),)), tmp_path / "cut", record={})
    assert Checkpoints(tmp_path / "cut").latest() == 2
    assert same(run(toy(), tmp_path / "cut", record={}), run(toy(), tmp_path / "whole", record={}))


def test_a_failing_evaluator_costs_no_checkpoint(tmp_path: Path):
    class Failing(Interrupting):
        def __call__(self, *inputs: Any, step: int, **settings: Any) -> dict[str, float]:
            if step == 3:
                raise ValueError("the disk is full")
            return {}

    with pytest.raises(ValueError, match="disk"):
        run(toy(evaluators=(Failing(),)), tmp_path, record={})
    assert Checkpoints(tmp_path).latest() == 3


@dataclasses.dataclass(frozen=True)
class Looking:
    """Notes the steps that it looks at, and may be stopped there."""

    seen: list[int]
    stops: bool = False
    every: int = 4

    def __call__(self, objective: Any, params: Any, *, step: int, **where: Any) -> dict[str, float]:
        if self.stops:
            raise KeyboardInterrupt
        self.seen.append(step)
        return {"looked": 1.0}


def test_what_ended_before_its_evaluation_is_evaluated_when_it_goes_on(tmp_path: Path):
    seen: list[int] = []
    for steps, stopped in ((4, True), (6, True), (6, False), (6, False), (7, False)):
        kept = len(seen)
        settings = {"steps": steps, "evaluators": (Looking(seen, stopped),), "optimizer": FLAT}
        with pytest.raises(KeyboardInterrupt) if stopped else contextlib.nullcontext():
            run(toy(**settings), tmp_path, record={})
        assert stopped == (len(seen) == kept) or seen == [4, 6]
    # Each that was due, once.
    assert seen == [4, 6, 7]
    assert [line["step"] for line in read_lines(tmp_path) if "looked" in line] == [4, 6, 7]


def test_how_batches_are_read_may_change(tmp_path: Path):
    kept = {"data": {"seed": 0, "workers": 1}, "steps": 3}
    run(toy(steps=3), tmp_path, record=kept)
    run(toy(steps=3), tmp_path, record={"data": {"seed": 0, "workers": 8, "prefetch": 2}})
    with pytest.raises(CheckpointError, match=r"data\.seed: 0 became 1"):
        run(toy(steps=3), tmp_path, record={"data": {"seed": 1, "workers": 8}})


def test_what_another_mesh_needs_may_change(tmp_path: Path):
    def record(*, depth: int = 2, **changes: str) -> dict[str, Any]:
        model = {"depth": depth, "remat": "full", "attention": {"across": "auto"}} | changes
        return {"objective": {"model": model}}

    run(toy(steps=3), tmp_path, record=record())
    run(toy(steps=3), tmp_path, record=record(remat="offload", attention="ring"))
    with pytest.raises(CheckpointError, match=r"objective\.model\.depth: 2 became 3"):
        run(toy(steps=3), tmp_path, record=record(depth=3))


def test_a_checkpoint_that_another_process_does_not_see_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run(toy(), tmp_path, record={})
    monkeypatch.setattr(Checkpoints, "there", lambda self, step: step != 6)
    with pytest.raises(CheckpointError, match=r"does not see \[6\]; --out must be a folder"):
        run(toy(), tmp_path, record={})
    assert Checkpoints(tmp_path).latest() == 6


def test_a_checkpoint_that_does_not_fit_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run(toy(), tmp_path, record={})

    def full(*where: Any, **how: Any) -> Any:
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", full)
    with pytest.raises(CheckpointError, match="does not fit these devices"):
        run(toy(steps=8), tmp_path, record={})
    assert (tmp_path / "checkpoints" / "6").exists()


def test_another_experiment_in_the_folder_is_refused_by_field(tmp_path: Path):
    run(toy(), tmp_path, record={"seed": 0, "steps": 6})
    with pytest.raises(CheckpointError, match="seed: 0 became 1"):
        run(toy(), tmp_path, record={"seed": 1, "steps": 7})
    with pytest.raises(CheckpointError, match="other clips"):
        run(toy(data=Points(seed=1)), tmp_path, record={"seed": 0, "steps": 6})


def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(
    tmp_path: Path, caplog: Any
):
    whole = run(toy(optimizer=FLAT, steps=8), tmp_path / "whole", record={})
    folder = tmp_path / "run" / "checkpoints"
    run(toy(optimizer=FLAT), tmp_path / "run", record={})
    damage(folder / "6" / "params")
    again = run(toy(optimizer=FLAT, steps=8), tmp_path / "run", record={})
    assert "checkpoints/6 cannot be read" in caplog.text and same(again, whole)
    assert {path.name for path in folder.iterdir()} == {"6", "8", "damaged-6"}
    # The same step may be damaged again; and where none can be read, none is touched.
    damage(folder / "8" / "data")
    again = run(toy(optimizer=FLAT, steps=8), tmp_path / "run", record={})
    assert same(again, whole)
    for step in ("6", "8"):
        damage(folder / step / "data")
    with pytest.raises(CheckpointError, match="checkpoints/8 cannot be read"):
        run(toy(optimizer=FLAT, steps=9), tmp_path / "run", record={})
    assert {path.name for path in folder.iterdir()} == {"6", "8", "damaged-6", "damaged-8"}


def damage(folder: Path) -> None:
    """Cuts all files short."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:10])


FULL = """
import resource, signal, sys
from tests.training.test_loop import toy
from tests.training.toy import Points
from sora_jax.training.loop import run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

class Full(Points):
    def batches(self, start):
        for n, loaded in enumerate(super().batches(start), start):
            # No file of a checkpoint can be written from the fifth step to the last but one.
            limit = 1 if 5 <= n < int(sys.argv[2]) else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            yield loaded

run(toy(steps=12, data=Full(), save_every=2), sys.argv[1], record={})
"""


@pytest.mark.parametrize("room_again", [pytest.param(9, marks=pytest.mark.slow), 20])
def test_a_checkpoint_that_cannot_be_written_is_told_of_and_the_one_before_stays(
    tmp_path: Path, room_again: int
):
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(room_again)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert "cannot be written" in ended.stderr
    if room_again < 12:
        assert ended.returncode == 0, ended.stderr
        assert Checkpoints(tmp_path).steps() == [12, 10]
    else:
        assert "its last step is not saved" in ended.stderr, ended.stderr
        assert not list((tmp_path / "checkpoints").glob("*tmp*"))
        left = Checkpoints(tmp_path).steps()
        assert left and max(left) <= 4


def test_accumulation_averages_gradients_of_several_batches(tmp_path: Path):
    """Plain gradient descent, so that an update is the gradient: of two batches, their mean."""

    def after(accumulate: int) -> tuple[Any, Any]:
        batches = [batch_of(seed, rows=8, width=1) for seed in range(2)]
        optimizer = optax.sgd(0.1)
        if accumulate > 1:
            optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
        objective = Regression()
        make = initializer(objective, optimizer, seed=0, batch=batches[0])
        start = nn.unbox(make())
        step = training_step(objective, optimizer, seed=0, ema=0.5, accumulate=accumulate)
        states = [start]
        for batch in batches:
            # The same noise in both, by the counter that the key is made of.
            states.append(step(states[-1].replace(step=start.step), batch)[0])
        return start, states[1:]

    start, (first, second) = after(2)
    assert same(first.params, start.params)
    assert same(first.ema, start.ema)
    alone, (one, _) = after(1)
    assert not same(one.params, alone.params)

    # Half of the sum of the two moves that the batches would make from the start.
    def move(batch: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), 0)
        gradient = jax.grad(lambda p: Regression().loss(p, key, batch, 0)[0])(start.params)
        return jax.tree.map(lambda g: -0.1 * g, gradient)

    moves = [move(batch_of(seed, rows=8, width=1)) for seed in range(2)]
    wanted = jax.tree.map(lambda p, a, b: p + (a + b) / 2, start.params, *moves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), second.params, wanted)
    assert not same(second.ema, start.ema)


def test_a_batch_that_the_mesh_cannot_share_is_refused(tmp_path: Path):
    with pytest.raises(MeshError, match="3 rows"):
        run(toy(data=Points(rows=3), mesh=Mesh()), tmp_path, record={})
