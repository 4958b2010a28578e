"""Several processes, one run: each drives the devices of its host, and all run the same program."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sora_jax.arrays import Share

log = logging.getLogger("sora_jax")

SILENT = 45
"""Seconds without a sign of life after which a process counts as dead, and the others end."""

_JOINING = 240
"""Seconds that processes wait for one another to begin; less than what `tpu_scripts/train.sh` takes
for a run that gets nowhere, as of one that has ended for good the others learn no other way."""

_MOST = 64


def join(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Joins the other processes of a run; to be called before anything asks for a device.

    On TPU VMs, under SLURM, Open MPI or Kubernetes JAX finds the others by itself. Elsewhere
    `coordinator` is HOST:PORT of the first process, `count` how many there are, and `index` which
    of them this is, from 0. Raises ValueError where neither is so.
    """
    given = (coordinator, count, index)
    if any(each is None for each in given) and any(each is not None for each in given):
        raise ValueError("give --coordinator, --processes and --process together, or none of them")
    if jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=count,
            process_id=index,
            initialization_timeout=_JOINING,
            heartbeat_timeout_seconds=SILENT,
            # One that ends for a notice waits for the others so long, and no longer.
            shutdown_timeout_seconds=SILENT,
        )
    except ValueError as error:
        raise ValueError(
            f"cannot find the other processes of this run ({error}): give --coordinator HOST:PORT, "
            "--processes and --process"
        ) from error
    log.info(
        "process %d of %d, with %d of %d devices",
        jax.process_index(),
        jax.process_count(),
        jax.local_device_count(),
        jax.device_count(),
    )


def own_share() -> Share:
    """Returns this process's part of what all of them share out."""
    return Share((jax.process_index(),), jax.process_count())


def first() -> bool:
    """Whether this is the process that does what is to be done once."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def agreed(own: bool) -> bool:
    """Returns whether every process says so."""
    return int(total(np.array(own, np.int32))) == jax.process_count()


def of_first(numbers: Sequence[int]) -> list[int]:
    """Returns the numbers, not negative and at most 64, that the first process has."""
    if jax.process_count() == 1:
        return list(numbers)
    padded = np.full(_MOST, -1, np.int32)
    padded[: len(numbers)] = numbers
    given = multihost_utils.broadcast_one_to_all(padded)
    return [int(number) for number in given if number >= 0]


def total(tree: Any) -> Any:
    """Returns the sum over all processes of each array of a tree, as every process has it."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda each: each.sum(0), multihost_utils.process_allgather(tree))
