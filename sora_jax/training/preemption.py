"""The notice that a machine is about to be taken away: SIGTERM, as spot VMs and schedulers give it;
and, of several processes, Ctrl-C.

Between two steps the run saves, waits until all is on disk, and ends with an exit code that tells a
launch script to start it again; between two batches, encoding ends so. Among several processes
JAX's coordination service hands on the notice that any of them gets, and agrees on when all of them
stop: the next time but one that they ask. It knows times by consecutive numbers alone, which those
of steps are not where a run goes on, or a stage follows another; so the times of asking are counted
here. Processes that have not asked as often, as in encoding each of its own, are brought
`together`.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sora_jax.parallel.processes import CODE


class _Asked:
    """How often this process has asked."""

    times = 0


class Preempted(SystemExit):
    """The run has saved its step and is to be started again."""

    def __init__(self) -> None:
        super().__init__(CODE)


class Notice:
    """Hears SIGTERM while it is entered.

    Of several processes JAX has a handler of its own for it, and the first Ctrl-C is taken for one:
    an interrupted process could not save without the others. That holds for all stages together,
    as processes do not come from one to the next at the same moment: within one that is entered
    another notice does nothing.
    """

    def __init__(self) -> None:
        self.given = False
        self._number, self._handler = signal.SIGTERM, self._heard
        if jax.process_count() > 1:
            self._number, self._handler = signal.SIGINT, self._interrupted
        self._before: Any = None

    def __enter__(self) -> Notice:
        entered = isinstance(getattr(signal.getsignal(self._number), "__self__", None), Notice)
        # Handlers are the main thread's.
        if threading.current_thread() is threading.main_thread() and not entered:
            self._before = signal.signal(self._number, self._handler)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._before is not None:
            signal.signal(self._number, self._before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.given = True

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, self._before)
        os.kill(os.getpid(), signal.SIGTERM)

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
