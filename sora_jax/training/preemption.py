"""The notice that a machine is about to be taken away: SIGTERM, as spot VMs and schedulers give it.

Between two steps the run saves, waits until all is on disk, and ends with an exit code that tells a
launch script to start it again; between two batches, encoding ends so. Among several processes
JAX's coordination service hands on the notice that any of them gets, and agrees on when all of them
stop: the next time but one that they ask. It knows times by consecutive numbers alone, which those
of steps are not where a run goes on, or a stage follows another; so the times of asking are counted
here. Processes that have not asked as often, as in encoding each of its own, are brought
`together`.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

CODE = 75
"""EX_TEMPFAIL of sysexits.h: try again."""


class _Asked:
    """How often this process has asked."""

    times = 0


class Preempted(SystemExit):
    """The run has saved its step and is to be started again."""

    def __init__(self) -> None:
        super().__init__(CODE)


class Notice:
    """Hears SIGTERM while it is entered."""

    def __init__(self) -> None:
        self.given = False
        self.before: Any = None

    def __enter__(self) -> Notice:
        # Of several processes JAX has a handler of its own; and handlers are the main thread's.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self._heard)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.given = True

    def reached(self) -> bool:
        """Whether to stop now; for every process to ask, before the first step and after each."""
        if jax.process_count() > 1:
            _Asked.times += 1
            return multihost_utils.reached_preemption_sync_point(_Asked.times)
        return self.given


def together() -> None:
    """Has all processes have asked as often; for all of them to call at the same place."""
    if jax.process_count() > 1:
        _Asked.times = int(multihost_utils.process_allgather(np.int32(_Asked.times)).max())
