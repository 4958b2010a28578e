"""Ends a process that waits for the others of its run in vain, hangs by itself, or is left by one.

JAX ends the rest when a process dies. One that lives and hangs, say in reading a file, would be
waited for without end: exchanges between devices and barriers know no time limit. And one that ends
for what starting again does not mend tells the others, so that none is started again for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax

from sora_jax.parallel import processes
from sora_jax.parallel.processes import CODE

log = logging.getLogger("sora_jax")

_LONGER = 10
"""How many times longer than the longest step of its bucket so far."""


class _Wait(NamedTuple):
    """What is waited for and what it means, the time since when, and for how many seconds."""

    told: str
    since: float
    limit: float


class Watchdog:
    """Watches a process while it is entered, if there are several processes.

    patience       seconds for which a step is waited for at least; ten times the longest of its
                   bucket if that is more. What a bucket's first step may take is told from that of
                   another, whose clips are so many times fewer or smaller.
    long_patience  seconds for all else, and for the first two steps: nothing tells one that is slow
                   from one that hangs. (The first is not measured: hosts differ most in how long
                   they take to begin.)
    sizes          of buckets, once they are known: the clips of a batch, the values of a clip.
    """

    def __init__(self, name: str, *, patience: float, long_patience: float):
        self._name, self._patience, self._long_patience = name, patience, long_patience
        self.sizes: Mapping[str, tuple[int, int]] = {}
        self._wait: _Wait | None = None
        self._begun = False
        self._met: set[str] = set()
        self._longest: dict[str, float] = {}
        self._left = threading.Event()

    def __enter__(self) -> Watchdog:
        if jax.process_count() > 1:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()

    def step(self, number: int, *, bucket: str) -> contextlib.AbstractContextManager[None]:
        """Within this the devices of all processes should finish step `number`."""
        return self._measured(_of_others(f"step {number}"), bucket, begun=self._begun)

    def alone(self, what: str, *, kind: str) -> contextlib.AbstractContextManager[None]:
        """Within this the process does something by itself, which takes about as long as what it
        did before of the same kind; the first of each is not measured, as it may compile."""
        begun = kind in self._met
        self._met.add(kind)
        return self._measured(f"for {what}: it hangs, and ends", kind, begun=begun)

    @contextlib.contextmanager
    def _measured(self, told: str, kind: str, *, begun: bool) -> Iterator[None]:
        began, expected = time.monotonic(), self._expected(kind)
        limit = self._long_patience
        if expected is not None:
            limit = max(self._patience, _LONGER * expected)
        self._wait = _Wait(told, began, limit)
        try:
            yield
        finally:
            self._wait = None
            if begun:
                took = time.monotonic() - began
                self._longest[kind] = max(self._longest.get(kind, 0.0), took)
            self._begun = True

    def _expected(self, kind: str) -> float | None:
        """The seconds that it has taken at most; or that another bucket lets expect, whose work is
        in proportion to its values, or with attention to their square."""
        if kind in self._longest or kind not in self.sizes:
            return self._longest.get(kind)
        rows, values = self.sizes[kind]
        known = [(t, *self.sizes[of]) for of, t in self._longest.items() if of in self.sizes]
        return max(
            (took * rows / r * max(values / v, (values / v) ** 2) for took, r, v in known),
            default=None,
        )

    @contextlib.contextmanager
    def other(self, what: str) -> Iterator[None]:
        """Within this all processes do `what`, such as compiling, which they end together."""
        self._wait = _Wait(_of_others(what), time.monotonic(), self._long_patience)
        try:
            yield
        finally:
            self._wait = None

    def _watch(self) -> None:
        while not self._left.wait(1.0):
            if why := processes.ended():
                log.error("%s: another process has ended, so does this one: %s", self._name, why)
                processes.leave()
            wait = self._wait
            if wait is None:
                continue
            waited = time.monotonic() - wait.since
            if waited > wait.limit:
                log.error(
                    "%s: process %d has waited %.0f s %s (code %d: start again; if it was slow "
                    "and did not hang, with a longer patience or long_patience)",
                    self._name,
                    jax.process_index(),
                    waited,
                    wait.told,
                    CODE,
                )
                logging.shutdown()
                os._exit(CODE)


def _of_others(what: str) -> str:
    return f"for {what}, which all do together: one of them hangs, and this one ends"
