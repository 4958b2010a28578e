"""A minute of video (480 frames at 8 a second) in one command: killed once, gone on with, measured.

    python experiments/worlds/minute.py [CHECKPOINT] --out minute

`sora-jax generate --frames 480`, by default of the model that comes with the package, for one
prompt of each of several worlds. The first is killed (SIGKILL) when a part of it is on disk, and
started again; its frames are compared with those of a run that nobody stopped.

drift     the mean and the deviation of the pixels of each second, less those of the clip's first
          second: the largest over the minute, in grey levels, and in sigmas: how much these two
          numbers vary among real clips of that world on the same ground, over their seconds and
          scenes. Beside it the largest drift within a real clip, 0 where nothing moves, and that of
          clips that turn into another half-way, on the same ground, in the mean: the floor. Where
          it is below three sigmas, three sigmas forbid little.
per hop   how far the mean colour goes from one hop to the next, in grey levels, and in real clips.
memory    the most that the process has held, for a minute and for a quarter of one.

Writes OUT/minute.md, OUT/minute.json, the clips and a sheet of them.
"""

import argparse
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sora_jax
from sora_jax.arrays import Size
from sora_jax.data.video import contact_sheet, read_clip
from sora_jax.data.worlds.source import ALL
from sora_jax.data.worlds.sprites import Scene as Sprites
from sora_jax.data.worlds.world import Setting, World, stream
from sora_jax.evaluation import joins
from sora_jax.generation.pipeline import Pipeline
from sora_jax.generation.rollout import plan_hops

FPS, FRAMES, SIDE = 8, 480, 64
SHOWN = ("sprites", "balls", "orbit", "game")
REAL = 24
"""Real clips of each world, for the deviations."""


def seconds_of(frames: np.ndarray) -> np.ndarray:
    """Returns the mean and the deviation of the pixels of each second [seconds, 2]."""
    parts = frames[: len(frames) // FPS * FPS].reshape(-1, FPS, *frames.shape[1:]).astype(float)
    axes = tuple(range(1, parts.ndim))
    return np.stack([parts.mean(axes), parts.std(axes)], axis=1)


def drift_of(frames: np.ndarray) -> np.ndarray:
    """Returns how far each later second is from the first [seconds - 1, 2]."""
    numbers = seconds_of(frames)
    return numbers[1:] - numbers[0]


def lasting(world: World) -> Iterator[tuple[np.ndarray, str]]:
    """Real clips of a minute on the ground of the first, with their short captions: of sprites,
    those that stay."""
    setting, ground = Setting.of(height=SIDE, width=SIDE, seconds=FRAMES / FPS), None
    for index in itertools.count():
        rng = stream(7, index)
        scene: Any = world.scene(rng, setting)
        if isinstance(scene, Sprites) and any(each.motion != "still" for each in scene.sprites):
            continue
        ground = ground or getattr(scene, "place", None)
        if ground != getattr(scene, "place", None):
            continue
        times = np.arange(FRAMES) / FPS
        frames = world.render(scene, times, height=SIDE, width=SIDE)
        yield frames, world.captions(scene, rng)[0].text


class Command:
    """`sora-jax generate` of one clip in a process of its own."""

    def __init__(self, given: argparse.Namespace, prompt: str, out: Path, frames: int):
        flags = ["--frames", str(frames), "--steps", str(given.steps), "--out", str(out)]
        if given.checkpoint:
            flags += ["--checkpoint", given.checkpoint]
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sora_jax", "generate", prompt, *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def killed_with_parts(self) -> int:
        """Kills it when some of its hops are finished, and returns how many."""
        parts = Path(f"{self.out}.parts")
        while len(done := list(parts.glob("hop_*.npy"))) < 5:
            assert self.process.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return len(done)

    def finished(self) -> int:
        """Waits for its end, and returns the most bytes that it has held."""
        # Not getrusage: its peak is inherited from this process, which holds real clips.
        status, most = Path(f"/proc/{self.process.pid}/status"), 0
        while self.process.poll() is None:
            found = re.search(r"VmHWM:\s*(\d+)", status.read_text())
            most = max(most, 1024 * int(found[1]) if found else 0)
            time.sleep(0.05)
        assert self.process.returncode == 0, f"sora-jax generate ended: {self.process.returncode}"
        return most


def hops(pipeline: Pipeline) -> tuple[int, int]:
    """Frames of the first hop of a minute, and those that each other one adds."""
    vae = pipeline.vae
    one, two, *_ = plan_hops(0, vae.latent_size(Size(FRAMES, 1, 1)).frames, window=pipeline.window)
    ends = [vae.pixel_size(Size(count, 1, 1)).frames for count in (one.new, one.new + two.new)]
    if ends[0] < ends[1] - ends[0]:
        raise SystemExit("a first hop shorter than those that follow is not measured here")
    return ends[0], ends[1] - ends[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--out", default="minute", type=Path)
    parser.add_argument("--steps", default=25, type=int)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    first, hop = hops(sora_jax.load(given.checkpoint))
    worlds = {world.name: world for world in ALL}
    rows, clips, prompts, told = [], [], [], []
    for number, name in enumerate(SHOWN):
        scenes = list(itertools.islice(lasting(worlds[name]), REAL))
        deviation = np.concatenate([seconds_of(frames) for frames, _ in scenes]).std(axis=0)
        real = np.abs([drift_of(frames) for frames, _ in scenes]).max(axis=(0, 1))
        prompt = scenes[0][1]
        out = given.out / f"{name}.mp4"
        for stale in (out, given.out / "again.mp4", given.out / "quarter.mp4"):
            stale.unlink(missing_ok=True)
            shutil.rmtree(f"{stale}.parts", ignore_errors=True)
        began = time.monotonic()
        if number == 0:
            parts = Command(given, prompt, out, FRAMES).killed_with_parts()
            Command(given, prompt, out, FRAMES).finished()
            again = given.out / "again.mp4"
            most = Command(given, prompt, again, FRAMES).finished()
            quarter = Command(given, prompt, given.out / "quarter.mp4", FRAMES // 4).finished()
            same = np.array_equal(read_clip(out), read_clip(again))
            told += [
                f"Killed with {parts} hops on disk and gone on with: the frames are "
                f"{'' if same else 'NOT '}those of a run that nobody stopped.",
                f"Memory: {most / 2**20:.0f} MiB for a minute, {quarter / 2**20:.0f} MiB for a "
                "quarter of one.",
            ]
        else:
            Command(given, prompt, out, FRAMES).finished()
        frames = read_clip(out)
        assert len(frames) == FRAMES
        far = np.abs(drift_of(frames)).max(axis=0)
        # A clip that turns into another half-way, on the same ground.
        halves = zip(scenes, [*scenes[1:], scenes[0]], strict=True)
        turned = [joins.hard_cut(a, b, FRAMES // 2) for (a, _), (b, _) in halves]
        floor = np.abs([drift_of(clip) for clip in turned]).max(axis=1).mean(axis=0)
        true_hops, other_hops = (
            float(np.mean([joins.colour_drift(clip[first - hop :], hop) for clip in each]))
            for each in ([clip for clip, _ in scenes], turned)
        )
        rows.append(
            {
                "world": name,
                "prompt": prompt,
                "mean": far[0],
                "mean_sigmas": far[0] / deviation[0],
                "deviation": far[1],
                "deviation_sigmas": far[1] / deviation[1],
                "real_mean": real[0],
                "real_deviation": real[1],
                "other_mean": floor[0],
                "other_mean_sigmas": floor[0] / deviation[0],
                "other_deviation_sigmas": floor[1] / deviation[1],
                "other_deviation": floor[1],
                "hop": joins.colour_drift(frames[first - hop :], hop),
                "real_hop": true_hops,
                "other_hop": other_hops,
                "seconds": time.monotonic() - began,
            }
        )
        clips.append(frames)
        prompts.append(prompt)
        print(rows[-1], flush=True)
    sheet = contact_sheet(clips, prompts, columns=9, height=96)
    Image.fromarray(sheet).save(given.out / "minute.jpg", quality=85)
    (given.out / "minute.json").write_text(json.dumps(rows, indent=1))
    lines = [
        "| world | drift of the mean | in sigmas | most in a real clip | another clip, in sigmas "
        "| of the deviation | in sigmas | most in a real clip | another clip, in sigmas "
        "| per hop | in real clips | another clip |",
        "|---" * 12 + "|",
        *(
            f"| {row['world']} | {row['mean']:.1f} | {row['mean_sigmas']:.1f} "
            f"| {row['real_mean']:.1f} | {row['other_mean']:.1f}, {row['other_mean_sigmas']:.1f} "
            f"| {row['deviation']:.1f} | {row['deviation_sigmas']:.1f} "
            f"| {row['real_deviation']:.1f} | {row['other_deviation']:.1f}, "
            f"{row['other_deviation_sigmas']:.1f} "
            f"| {row['hop']:.2f} | {row['real_hop']:.2f} | {row['other_hop']:.2f} |"
            for row in rows
        ),
    ]
    text = "\n".join([*told, "", *lines, "", "![Frames of the four](minute.jpg)", ""])
    (given.out / "minute.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
