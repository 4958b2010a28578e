"""Ends a process that waits in vain for the others of its run.

JAX ends the rest when a process dies. One that lives and hangs, say in reading a file, would be
waited for without end: exchanges between devices and barriers know no time limit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

from sora_jax.training.preemption import CODE

log = logging.getLogger("sora_jax")

_LONGER = 10
"""How many times longer than the longest step of its bucket so far."""


class _Wait(NamedTuple):
    """What is waited for, the time since when, and for how many seconds."""

    what: str
    since: float
    limit: float


class Watchdog:
    """Watches a process while it is entered, if there are several processes.

    patience       seconds for which a step of the others is waited for at least; ten times the
                   longest of its bucket if that is more.
    long_patience  seconds for all else, and for steps of a bucket that are the first to be
                   measured: nothing tells one that is slow from one that hangs. (The first step of
                   all is not measured: hosts differ most in how long they take to begin.)
    """

    def __init__(self, name: str, *, patience: float, long_patience: float):
        self._name, self._patience, self._long_patience = name, patience, long_patience
        self._wait: _Wait | None = None
        self._begun = False
        self._longest: dict[str, float] = {}
        self._left = threading.Event()

    def __enter__(self) -> Watchdog:
        if jax.process_count() > 1:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()

    @contextlib.contextmanager
    def step(self, number: int, *, bucket: str) -> Iterator[None]:
        """Within this the devices of all processes should finish step `number`."""
        began, longest = time.monotonic(), self._longest.get(bucket)
        limit = self._long_patience
        if longest is not None:
            limit = max(self._patience, _LONGER * longest)
        self._wait = _Wait(f"step {number}", began, limit)
        try:
            yield
        finally:
            self._wait = None
            if self._begun:
                self._longest[bucket] = max(longest or 0.0, time.monotonic() - began)
            self._begun = True

    @contextlib.contextmanager
    def other(self, what: str) -> Iterator[None]:
        """Within this all processes do `what`, such as compiling, which they end together."""
        self._wait = _Wait(what, time.monotonic(), self._long_patience)
        try:
            yield
        finally:
            self._wait = None

    def _watch(self) -> None:
        while not self._left.wait(1.0):
            wait = self._wait
            if wait is None:
                continue
            waited = time.monotonic() - wait.since
            if waited > wait.limit:
                log.error(
                    "%s: process %d has waited %.0f s for the others to finish %s: one of them"
                    " hangs, and this one ends (code %d: start again)",
                    self._name,
                    jax.process_index(),
                    waited,
                    wait.what,
                    CODE,
                )
                logging.shutdown()
                os._exit(CODE)
