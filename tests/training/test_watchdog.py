"""A process that waits too long for the others of its run ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sora_jax.parallel.processes import CODE

WAITS = """
import logging, sys, time
import jax
from sora_jax.training.watchdog import Watchdog

logging.basicConfig(level=logging.INFO)
jax.process_count = lambda: 2
sizes = {{"long": (1, 20), "short": (1, 1), "longer": (2, 40)}}
watchdog = Watchdog("toy", patience=0.5, long_patience=2.0)
watchdog.sizes = sizes
with watchdog:
    # The first steps may take long, and what is as long after them is no surprise; nor is a step of
    # another bucket that takes twelve times as long, as it has twice the clips of twice the size.
    for step in (1, 2, 3):
        with watchdog.step(step, bucket="long"):
            time.sleep(0.2)
    with watchdog.step(3, bucket="longer"):
        time.sleep(2.4)
    with watchdog.step(4, bucket="short"):
        time.sleep(0.1)
    print("step 4 is done", flush=True)
    with watchdog.step(5, bucket="short"):
        time.sleep({step})
    # The first of its kind may take long, and lets expect nothing.
    for seconds in (1.2, 0.1):
        with watchdog.alone("clips to be read", kind="reading"):
            time.sleep(seconds)
    with watchdog.alone("clips to be read", kind="reading"):
        time.sleep({alone})
    with watchdog.other("saving step 5"):
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("step", "alone", "told"),
    [
        (60.0, 0.0, "for step 5, which all do together: one of them hangs"),
        pytest.param(0.0, 60.0, "for clips to be read: it hangs", marks=pytest.mark.slow),
        pytest.param(
            *(0.0, 0.0, "for saving step 5, which all do together: one of them hangs"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_takes_too_long_ends_the_process_with_a_message(
    step: float, alone: float, told: str
) -> None:
    program = WAITS.format(step=step, alone=alone)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == CODE and "step 4 is done" in ended.stdout
    assert told in ended.stderr
