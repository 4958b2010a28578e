"""What a run begins with: its devices; and its newest checkpoint, the parameters of another run, or
fresh ones."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from sora_jax import config
from sora_jax.checkpoint import CheckpointError, Checkpoints, DamagedError, newest, read_params
from sora_jax.parallel import processes
from sora_jax.parallel.topology import slice_of
from sora_jax.training.programs import Prepared
from sora_jax.training.protocols import OpenedData
from sora_jax.training.state import State
from sora_jax.training.train import MAY_CHANGE, Train

log = logging.getLogger("sora_jax")

_READINGS = 2
"""How often a checkpoint is read before it counts as damaged: storage may fail for a moment."""


def placed(train: Train, data: OpenedData) -> tuple[Train, jax.sharding.Mesh]:
    """Returns the run on the devices that there are, and these.

    Raises MeshError or ValueError where it does not suit them, its data or itself.
    """
    data.check(train.objective)
    if unknown := train.remat.keys() - data.shapes.keys():
        raise ValueError(
            f"{train.name}.remat names {', '.join(sorted(unknown))}, and the buckets are "
            f"{', '.join(data.shapes)}"
        )
    if (train.remat or train.remats) and not hasattr(train.objective, "rematerialised"):
        raise ValueError(
            f"{train.name}.{'remat' if train.remat else 'remats'} is given, and "
            f"{type(train.objective).__name__} has no choice"
        )
    there = slice_of(jax.devices())
    if there:
        train = train.on(there.name, there.count)
    devices = train.mesh.build()
    for name, batch in data.shapes.items():
        train.mesh.check_batch(batch.weight.shape[0], devices, bucket=name)
    return train, devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beginning:
    """Makes the first state of `train` in `folder`, laid out as `prepared` says.

    record  the JSON form of the experiment, which must be that of the checkpoints but for what may
            change.
    """

    train: Train
    folder: epath.Path
    record: Any
    data: OpenedData
    checkpoints: Checkpoints
    prepared: Prepared

    def state(self) -> State:
        """The state of the newest checkpoint that can be read, or one to begin with."""
        troubles: dict[int, DamagedError] = {}
        for step in self.steps():
            found, trouble = None, DamagedError(f"another process cannot read step {step}")
            for _ in range(_READINGS):
                try:
                    found = self.read(step)
                    break
                except DamagedError as error:
                    trouble = error
            # Where one of several processes cannot read its part, none goes on from it.
            if not processes.agreed(found is not None) or found is None:
                troubles[step] = trouble
                continue
            for newer, why in troubles.items():
                log.error("%s: it is set aside, for step %d", why, step)
                self.checkpoints.set_aside(newer)
            log.info("%s: going on from step %d", self.train.name, step)
            return found
        if troubles:  # whatever it is, all of them have it: nothing is touched
            raise next(iter(troubles.values()))
        if self.train.start is not None:
            return self.started(self.train.start)
        return self.prepared.born()

    def steps(self) -> list[int]:
        """The steps of checkpoints that the first process knows of, the newest first.

        All go through the same ones: a listing of a network's folder may be late. Raises
        CheckpointError in each process where one does not see them.
        """
        steps = processes.of_first(self.checkpoints.steps())
        unseen = [step for step in steps if not self.checkpoints.there(step)]
        if not processes.agreed(not unseen):
            raise CheckpointError(
                f"{self.folder}: the first process has checkpoints of the steps {steps}, of which "
                f"{f'this one does not see {unseen}' if unseen else 'another does not see all'}; "
                "--out must be a folder that all processes share (if it is, start again)"
            )
        return steps

    def read(self, step: int) -> State:
        """The state of checkpoint `step`."""
        self.check_same(step)
        trees = {
            "params": self.prepared.state.params,
            "ema": self.prepared.state.ema,
            "moments": self.prepared.state.counters(),
        }
        arrays = self.checkpoints.restore(step, trees=trees)
        return State(params=arrays["params"], ema=arrays["ema"], **arrays["moments"])

    def started(self, source: str) -> State:
        """A state at step 0 with the averaged parameters of another run."""
        step = newest(source)
        try:
            params = read_params(step, self.prepared.state.params)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.train.name}: start={source}: what lies there are no parameters of this "
                f"objective: {error}"
            ) from error
        log.info("%s: starting from the parameters of %s", self.train.name, step)
        fresh = self.prepared.born()
        return dataclasses.replace(fresh, params=params, ema=jax.tree.map(jnp.copy, params))

    def check_same(self, step: int) -> None:
        """Raises CheckpointError if the folder's run is of another experiment or other data."""
        old = self.checkpoints.record(step, "experiment")
        kept = [config.without(form, MAY_CHANGE) for form in (old, self.record)]
        changed = config.differences(*kept)
        position = self.checkpoints.record(step, "data")
        if position["fingerprint"] != self.data.fingerprint:
            changed.append("the files behind `data` (other clips, or other captions)")
        if changed:
            lines = "\n  ".join(changed)
            raise CheckpointError(
                f"{self.folder} holds step {step} of another experiment; different:\n  {lines}\n"
                "Give another --out, remove the folder, or undo the change."
            )
