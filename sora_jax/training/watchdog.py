"""Ends a process that waits in vain for the others of its run.

JAX ends the rest when a process dies. One that lives and hangs, say in reading a file, would be
waited for without end: exchanges between devices know no time limit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator

import jax

from sora_jax.training.preemption import CODE

log = logging.getLogger("sora_jax")

_LONGER = 10
"""How many times longer than the longest step so far."""


class Watchdog:
    """Watches the steps of a process while it is entered, if there are several processes.

    patience  seconds for which others are waited for at least. The first step is not watched, nor
              does it count: hosts differ most in how long they take to begin.
    """

    def __init__(self, name: str, *, patience: float):
        self._name, self._patience = name, patience
        self._since: float | None = None
        self._longest: float | None = None
        self._step = 0
        self._left = threading.Event()

    def __enter__(self) -> Watchdog:
        if jax.process_count() > 1:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()

    @contextlib.contextmanager
    def waiting(self, step: int) -> Iterator[None]:
        """Within this the devices of all processes should finish `step`."""
        began = time.monotonic()
        self._step, self._since = step, None if self._longest is None else began
        try:
            yield
        finally:
            self._since = None
            taken = time.monotonic() - began
            self._longest = 0.0 if self._longest is None else max(self._longest, taken)

    def _watch(self) -> None:
        while not self._left.wait(1.0):
            since = self._since
            if since is None:
                continue
            waited = time.monotonic() - since
            if waited > max(self._patience, _LONGER * (self._longest or 0.0)):
                log.error(
                    "%s: process %d has waited %.0f s for the others to finish step %d: one of them"
                    " hangs, and this one ends (code %d: start again)",
                    self._name,
                    jax.process_index(),
                    waited,
                    self._step,
                    CODE,
                )
                logging.shutdown()
                os._exit(CODE)
