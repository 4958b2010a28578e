"""How fast the loader reads a folder, and how long a training step would wait for it.

    python experiments/benchmarks/loader.py FOLDER --workers 1 --step-milliseconds 200

A step is simulated by sleeping, as a host does while its accelerator works; where the training runs
on the same cores as the loader, look at `waiting_share` in the metrics of a real run instead.
"""

from __future__ import annotations

import dataclasses
import time

import tyro

from sora_jax.data.folder import Folder
from sora_jax.data.loader import Loader
from sora_jax.data.pipeline import Clips
from sora_jax.data.suggest import Suggested

SETTLING = 5
"""Steps, as those that are measured, before these."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured over some steps, the first batch apart."""

    first_batch: float
    clips_per_second: float
    frames_per_second: float
    waiting_share: float


def measure(loader: Loader, *, warmup: int, steps: int, step_seconds: float) -> Speed:
    """Takes `steps` batches after `warmup`, working `step_seconds` after each. Some go before."""
    began = time.perf_counter()
    next(loader)
    first = time.perf_counter() - began
    for _ in range(warmup - 1):
        next(loader)
    # As the steps that follow, which would else begin with nothing read ahead.
    for _ in range(SETTLING):
        next(loader)
        time.sleep(step_seconds)
    clips = frames = waited = 0.0
    began = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(loader).batch
        waited += time.perf_counter() - asked
        clips += batch.weight.sum()
        frames += batch.extent[:, 0].sum()
        time.sleep(step_seconds)
    took = time.perf_counter() - began
    return Speed(
        first_batch=first,
        clips_per_second=float(clips / took),
        frames_per_second=float(frames / took),
        waiting_share=waited / took,
    )


def main(
    folder: tyro.conf.Positional[str],
    tokens: int = 2048,
    pixels: int = 128 * 128,
    workers: int = 1,
    prefetch: int = 4,
    steps: int = 20,
    step_milliseconds: float = 200.0,
) -> None:
    """Prints the speed of decoding, and of clips that were decoded before and kept in memory.

    Each without a training step between batches, and with a simulated one.
    """
    clips = Clips(
        source=Folder(path=folder),
        buckets=Suggested(tokens=tokens, pixels=pixels),
        workers=workers,
        prefetch=prefetch,
    )
    data = clips.open()
    print(f"{len(data.records)} clips, {len(data.plan.windows)} windows, {workers} worker(s)")
    print("buckets:", ", ".join(map(str, data.plan.used)))
    # Every worker keeps what it has read itself, and each reads every workers-th step.
    passes = 4 * max(1, workers) * data.epoch_steps
    for name, kept, warmup in (("decoded", 0, 1), ("kept", 512, passes)):
        for milliseconds in (0.0, step_milliseconds):
            opened = dataclasses.replace(clips, keep_megabytes=kept).open()
            with opened.loader() as loader:
                speed = measure(
                    loader, warmup=warmup, steps=steps, step_seconds=milliseconds / 1000
                )
            print(
                f"{name}, step of {milliseconds:g} ms: {speed.clips_per_second:.1f} clips/s, "
                f"{speed.frames_per_second:.0f} frames/s, waiting {100 * speed.waiting_share:.1f} %"
                f" (first batch after {speed.first_batch:.1f} s)"
            )


if __name__ == "__main__":
    tyro.cli(main)
