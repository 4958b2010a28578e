"""A process that waits too long for the others of its run ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sora_jax.training.preemption import CODE

WAITS = """
import logging, sys, time
import jax
from sora_jax.training.watchdog import Watchdog

logging.basicConfig(level=logging.INFO)
jax.process_count = lambda: 2
watchdog = Watchdog("toy", patience=0.5, long_patience=2.0)
with watchdog:
    # The first steps of a bucket may take long, and what is as long after them is no surprise.
    for step in (1, 2, 3):
        with watchdog.step(step, bucket="long"):
            time.sleep(1.2)
    with watchdog.step(4, bucket="short"):
        time.sleep(0.1)
    print("step 4 is done", flush=True)
    with watchdog.step(5, bucket="short"):
        time.sleep({step})
    with watchdog.other("saving step 5"):
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("step", "told"), [(60.0, "to finish step 5"), (0.0, "to finish saving step 5")]
)
def test_what_takes_too_long_ends_the_process_with_a_message(step: float, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WAITS.format(step=step)], capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == CODE and "step 4 is done" in ended.stdout
    assert told in ended.stderr and "one of them hangs" in ended.stderr
