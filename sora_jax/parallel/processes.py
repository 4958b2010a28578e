"""Several processes, one run: each drives the devices of its host, and all run the same program."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from sora_jax.arrays import Share

log = logging.getLogger("sora_jax")

CODE = 75
"""With which a process ends that is to be started again: EX_TEMPFAIL of sysexits.h."""

SILENT = 45
"""Seconds without a sign of life after which a process counts as dead, and the others end."""

_JOINING = 240
"""Seconds that processes wait for one another to begin; less than what `tpu_scripts/train.sh` takes
for a run that gets nowhere."""

_MOST = 64

_ENDED = "sora_jax/ended"
"""Under this name the service that joins the processes keeps which of them has ended, and why."""
_HEARD = 5.0
"""Seconds in which the others, who ask every second, hear of it."""


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
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ValueError(f"--coordinator {coordinator}: give HOST:PORT of the first process")
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


def end_for_good(error: BaseException) -> None:
    """Ends this process with code 1 after telling the others, who end so too; of several processes.

    Where starting again may help, as storage may have failed for a moment, or another process be
    gone, it ends with CODE, and the others as those of one that is dead. Without this it would be
    one or the other by chance: JAX has an end wait for that of the others, if they still are there.
    """
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return
    if _may_pass(error):
        logging.shutdown()
        os._exit(CODE)
    with contextlib.suppress(Exception):  # another has told before
        _service().key_value_set(_ENDED, f"{jax.process_index()} {str(error)[:1000]}")
    time.sleep(_HEARD)
    leave()


def leave() -> NoReturn:
    """Ends this process with code 1 when the others have heard that one has ended."""
    if first():  # it keeps what is told
        time.sleep(2 * _HEARD)
    logging.shutdown()
    os._exit(1)


def ended() -> str | None:
    """Returns why another process has ended for good; None where none has."""
    try:
        told = _service().key_value_try_get(_ENDED)
    except Exception:  # nothing is told; and what else there is JAX's own watch sees
        return None
    index, _, why = told.partition(" ")
    return None if int(index) == jax.process_index() else why


def _service() -> Any:
    """What joins the processes; JAX has no public name for it."""
    return distributed.global_state.client


def _may_pass(error: BaseException | None) -> bool:
    """Whether what caused an error is of the network, of storage, or the death of another."""
    while error is not None:
        exhausted = "RESOURCE_EXHAUSTED" in str(error)
        if isinstance(error, (OSError, jax.errors.JaxRuntimeError)) and not exhausted:
            return True
        error = error.__cause__ or error.__context__
    return False


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
    """Returns the numbers, not negative, that the first process has: the first 64 of them."""
    if jax.process_count() == 1:
        return list(numbers)
    numbers = numbers[:_MOST]
    padded = np.full(_MOST, -1, np.int32)
    padded[: len(numbers)] = numbers
    given = multihost_utils.broadcast_one_to_all(padded)
    return [int(number) for number in given if number >= 0]


def total(tree: Any) -> Any:
    """Returns the sum over all processes of each array of a tree, as every process has it."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda each: each.sum(0), multihost_utils.process_allgather(tree))
