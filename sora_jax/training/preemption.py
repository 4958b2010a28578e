"""The notice that a machine is about to be taken away: SIGTERM, as spot VMs and schedulers give it.

Between two steps the run saves, waits until all is on disk, and ends with an exit code that tells a
launch script to start it again. Among several processes JAX's coordination service hands on the
notice that any of them gets, and agrees on when all of them stop: the next time but one that they
ask. It knows times by consecutive numbers alone, which those of steps are not where a run goes on,
or a stage follows another; so the times of asking are counted here.
"""

from __future__ import annotations

import itertools
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

CODE = 75
"""EX_TEMPFAIL of sysexits.h: try again."""


_TIMES = itertools.count()
"""Of asking, in this process; all processes of a run ask as often."""


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
            return multihost_utils.reached_preemption_sync_point(next(_TIMES))
        return self.given
