"""The loop: batch, step, report, evaluate, save. All that a run does, in the order it happens."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sora_jax import config
from sora_jax.arrays import Batch
from sora_jax.checkpoint import CheckpointError, Checkpoints, located
from sora_jax.frozen import copy_frozen
from sora_jax.parallel import processes
from sora_jax.training.beginning import Beginning, placed
from sora_jax.training.evaluations import Evaluations
from sora_jax.training.metrics import Interval, Meter, Writer
from sora_jax.training.preemption import Notice, Preempted
from sora_jax.training.programs import Prepared, compile_ahead
from sora_jax.training.protocols import Loader, OpenedData
from sora_jax.training.state import State
from sora_jax.training.train import Train
from sora_jax.training.watchdog import Watchdog

log = logging.getLogger("sora_jax")


class TrainingStopped(RuntimeError):
    """The run cannot go on; the message says why and what to change."""


def run(
    train: Train,
    folder: epath.PathLike,
    *,
    record: Any = None,
    profile: tuple[int, int] | None = None,
) -> State:
    """Trains until `train.steps`, from the newest checkpoint in `folder` if there is one.

    record   the JSON form to keep of the experiment (that of `train` itself by default, which
             differs where folders were filled in).
    profile  first and last of the steps to profile, into `profile` below the folder, as TensorBoard
             reads it.

    Raises TrainingStopped, CheckpointError or MeshError.
    """
    folder = located(folder)
    record = config.to_json(train) if record is None else record
    watchdog = Watchdog(train.name, patience=train.patience, long_patience=train.long_patience)
    with watchdog:
        with watchdog.other("opening the data"):
            data = train.data.open()
        train, devices = placed(train, data)
        with watchdog.other("copying what it depends on"):
            checkpoints = Checkpoints(folder, keep=train.keep)
            fresh = checkpoints.latest() is None
            if processes.first():
                for name, source in data.artifacts.items():
                    copy_frozen(source, folder / name, replace=fresh)
            processes.wait_for_all(f"{train.name}: what it depends on is copied")
        with train.mesh.use(devices):
            run = _Run(train, folder, record, data, devices, checkpoints, profile, watchdog)
            with run.notice:
                return run.go()


class _Run:
    """The mutable part of a run; `run` has checked what it starts from."""

    def __init__(
        self,
        train: Train,
        folder: epath.Path,
        record: Any,
        data: OpenedData,
        devices: jax.sharding.Mesh,
        checkpoints: Checkpoints,
        profile: tuple[int, int] | None,
        watchdog: Watchdog,
    ):
        self.train, self.folder, self.record, self.data = train, folder, record, data
        self.checkpoints, self.profile = checkpoints, profile
        self.prepared = Prepared.of(train, data.shapes, devices)
        self.devices = devices
        self.programs: dict[str, Callable[[State, Batch], tuple[State, Any]]] = {}
        share = self.train.mesh.share(self.devices)
        self.meter, self.share = Meter(), len(share.parts) / share.of
        self.watchdog = watchdog
        watchdog.sizes = {name: _size(batch) for name, batch in data.shapes.items()}
        self.notice = Notice()
        self.watcher = ThreadPoolExecutor(1, thread_name_prefix="finished")
        self.pending: tuple[str, Any] | None = None
        self.done: Future[float] = Future()
        self.warned: set[str] = set()
        self.profiling = False
        self.rate = train.optimizer.rate(-(-train.steps // train.accumulate))

    def go(self) -> State:
        beginning = Beginning(
            train=self.train,
            folder=self.folder,
            record=self.record,
            data=self.data,
            checkpoints=self.checkpoints,
            prepared=self.prepared,
        )
        with self.watchdog.other("its beginning"):
            self.state = beginning.state()
        start = self.taken = int(self.state.step)
        with self.watchdog.other("looking up what was measured"):
            self.writer = Writer(self.folder, start=start) if processes.first() else None
            self.evaluations = Evaluations(
                train=self.train,
                data=self.data,
                folder=self.folder,
                watchdog=self.watchdog,
                writer=self.writer,
            )
            evaluated = not start or self.evaluations.done(start)
        if not evaluated:
            self.evaluations.run(start, self.state.ema)
        if start < self.train.steps:
            with self.watchdog.other("compiling"):
                self.programs = compile_ahead(self.prepared, name=self.train.name)
                processes.wait_for_all(f"{self.train.name}: compiled")
            loader = self.data.loader(start=start, share=self.train.mesh.share(self.devices))
            try:
                with contextlib.closing(loader):
                    self.steps(start, loader)
            finally:
                self.stop_profile()
                # Whatever ended the run, what it began to write is kept.
                with self.watchdog.other("saving"):
                    self.checkpoints.wait()
                self.watcher.shutdown(wait=False)
        with self.watchdog.other("saving"):
            self.checkpoints.close()
        if self.writer is not None:
            self.writer.close()
        if self.checkpoints.latest() != int(self.state.step):
            raise CheckpointError(
                f"{self.train.name} is trained, and its last step is not saved, as said above; "
                "make room and start it again: it goes on from the newest checkpoint"
            )
        return self.state

    def steps(self, start: int, loader: Loader) -> None:
        """Steps `start` to the last, saving what there is if it is interrupted."""
        # Not before, as reading a checkpoint and compiling are no part of what steps take.
        self.interval = Interval(self.share)
        with _progress() as bar:
            task = bar.add_task(self.train.name, total=self.train.steps, completed=start)
            try:
                if self.notice.reached():
                    log.warning("%s: this machine is to be taken away", self.train.name)
                    raise Preempted
                for step in range(start, self.train.steps):
                    self.one(next_step=step + 1, loader=loader)
                    bar.update(task, completed=step + 1)
                    if self.notice.reached():
                        self.save_all("this machine is to be taken away")
                        raise Preempted
            except KeyboardInterrupt:
                # Of several processes the second (`preemption.Notice`): none can save by itself.
                if jax.process_count() == 1:
                    self.save_all("interrupted")
                raise
            except jax.errors.JaxRuntimeError as error:
                if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
                    raise
                # What is on the devices cannot be saved: an exchange was cut short.
                log.error("%s: another process is gone (%s)", self.train.name, error)
                raise Preempted from error

    def save_all(self, why: str) -> None:
        """Saves the last step, if that has not been done, and waits until it is on disk."""
        with self.watchdog.other("the last step"):
            done = int(self.state.step)
        log.warning("%s: %s, saving step %d", self.train.name, why, done)
        # In each process or in none: what one could not write all write again.
        with self.watchdog.other(f"saving step {done}"):
            there = processes.agreed(self.checkpoints.latest() == done)
        if not there:
            self.save(done)
        with self.watchdog.other("saving"):
            self.checkpoints.wait()

    def one(self, *, next_step: int, loader: Loader) -> None:
        """Takes one batch, and does what is due after it."""
        profiled_from, profiled_to = self.profile or (0, 0)
        # A run that goes on within these steps has the rest of them profiled.
        if not self.profiling and profiled_from <= next_step <= profiled_to:
            jax.profiler.start_trace(str(self.folder / "profile"))
            self.profiling = True
        asked = time.monotonic()
        loaded = next(loader)
        batch = self.placed(loaded.batch)
        self.interval.waited(self.idle_since(asked))
        self.interval.add(loaded)
        self.warn(loaded.failed)
        # Kept at once: the state that goes in is given away, and an interruption saves this one.
        self.state, metrics = self.programs[loaded.bucket](self.state, batch)
        # The device works on this step while the host reads the metrics of the one before.
        self.take(self.pending)
        self.pending = (loaded.bucket, metrics)
        self.watch(metrics)
        if self.profiling and next_step == min(profiled_to, self.train.steps):
            with self.watchdog.other(f"step {next_step}"):
                jax.block_until_ready(self.state)
            self.stop_profile()
        last = next_step == self.train.steps
        if last or next_step % self.train.log_every == 0:
            self.take(self.pending)
            self.pending = None
            self.report(next_step)
        # Before the evaluators, whose failure must not cost what was learnt.
        if last or next_step % self.train.save_every == 0:
            self.save(next_step)
        self.evaluations.run(next_step, self.state.ema)

    def stop_profile(self) -> None:
        """Writes what was profiled, if anything was; training does not end for its loss."""
        if not self.profiling:
            return
        self.profiling = False
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # of storage, by any of the layers below
            log.error(
                "%s: the profile cannot be written (%s), and training goes on",
                self.train.name,
                error,
            )

    def idle_since(self, asked: float) -> float:
        """The seconds since `asked` for which the devices had nothing to do.

        Waiting for a batch costs nothing while they still work on the one before.
        """
        if self.pending is None:
            return time.monotonic() - asked
        if not self.done.done():
            return 0.0
        return time.monotonic() - max(asked, self.done.result())

    def watch(self, metrics: Any) -> None:
        """Has the time noted at which the devices will have finished this step."""

        def finished() -> float:
            jax.block_until_ready(metrics)
            return time.monotonic()

        self.done = self.watcher.submit(finished)

    def placed(self, batch: Batch) -> Batch:
        """This process's rows as its part of global arrays."""
        return jax.tree.map(lambda leaf: self.train.mesh.place(leaf, self.devices), batch)

    def take(self, pending: tuple[str, Any] | None) -> None:
        """Reads a finished step's metrics; stops a run whose gradients stay not finite."""
        if pending is None:
            return
        bucket, metrics = pending
        self.taken += 1
        with self.watchdog.step(self.taken, bucket=bucket):
            values = jax.device_get(metrics)
        self.meter.add(values, bucket=bucket)
        if values["skipped_in_a_row"] >= self.train.skips_allowed:
            raise TrainingStopped(
                f"{self.train.name}: {int(values['skipped_in_a_row'])} steps in a row had no "
                "finite gradient; lower optimizer.learning_rate, or look at the data of bucket "
                f"{bucket}. The newest checkpoint is from before the trouble or shortly after."
            )

    def warn(self, failed: Any) -> None:
        """Names each clip that could not be read, once."""
        for name, reason in failed.items():
            if name not in self.warned:
                self.warned.add(name)
                log.warning("cannot read %s (%s): its rows stay empty", name, reason)

    def report(self, step: int) -> None:
        """Writes the averages since the last report."""
        metrics = self.meter.drain() | self.interval.drain()
        metrics["compiled"] = float(len(self.programs))
        metrics["learning_rate"] = float(jnp.asarray(self.rate(step // self.train.accumulate)))
        if self.writer is not None:
            self.writer.write(step, metrics)
        log.info(
            "%s %d/%d  loss %.4f  %.1f clips/s  waiting %.1f %%  %.1f min left",
            self.train.name,
            step,
            self.train.steps,
            metrics.get("loss", math.nan),
            metrics["clips_per_second"],
            100 * metrics["waiting_share"],
            (self.train.steps - step) * metrics["seconds_per_step"] / 60,
        )

    def save(self, step: int) -> None:
        """Starts to write a checkpoint."""
        if self.writer is not None:
            self.writer.flush()
        with self.watchdog.other(f"step {step}"):
            state = jax.block_until_ready(self.state)
        trees = {"params": state.params, "ema": state.ema, "moments": state.counters()}
        position = {
            "step": step,
            "fingerprint": self.data.fingerprint,
            "fps": self.data.fps,
            "buckets": list(self.data.shapes),
        }
        records = {"experiment": self.record, "data": position}
        with self.watchdog.other(f"saving step {step}"):
            self.checkpoints.save(step, trees=trees, records=records)


def _size(batch: Batch) -> tuple[int, int]:
    """The clips of an abstract batch, and the values of a clip."""
    clips: Any = batch.video if batch.latent is None else batch.latent
    return clips.shape[0], math.prod(clips.shape[1:])


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        transient=True,
    )
