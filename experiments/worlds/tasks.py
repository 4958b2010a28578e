"""What the tasks of one model are worth, measured on fresh sprites: a table, and sheets to look at.

    python experiments/worlds/tasks.py [CHECKPOINT] --out tasks

Every task gets clips of one shape and their captions, by default 32 of 17 frames and 64 x 64
pixels; `sizes` animates and extends wide and tall ones, `image` makes stills. Beside the model
stand what real clips have (the ceiling), these as the autoencoder gives them back, and what a hard
cut, a cross-fade or a frozen frame have (the floors), by the same measures (`evaluation.joins`):

    given back    PSNR of the given frames, less that of the autoencoder's own reconstruction, dB
    seam          the change at the join over the median change around it
    velocity      how differently things move before and after the join, pixels per frame, of clips
                  in which something moves
    closure       the seam from the last frame of a loop to its first; mp4, gif: of one written to
                  an MP4 or a GIF and read back
    diversity     RMS difference of three beginnings with one ending, grey levels. Of a sprite the
                  ending tells the beginning; of a painting and of shots it does not. Codec: of the
                  same beginning coded in two ways, at other frames of a latent.
    faithfulness  PSNR of an edited clip against the clip, dB, by strength
    slots         the share of colour, shape, motion and place that are those of the edit's prompt
    border        the change across the border of a region, over that between other columns
    towards B     connect: slots of a frame like the second clip's, less those like the first's, by
                  rank with the frames of each clip; largest step from a frame to the next
    at once       connect: the largest change from a frame to the next, of all change from the first
                  clip to the second

Loops of clips and connect have no prompt; all others are guided by --guidance on their captions.

Writes OUT/tasks.md, OUT/tasks.json and a sheet for each task, after each of them. What tasks.json
holds of other tasks, by the same model, settings and measures, stays on the page.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

import sora_jax
from sora_jax.arrays import Size
from sora_jax.data.video import contact_sheet, read_clip, write_video
from sora_jax.evaluation import joins
from sora_jax.evaluation.frames import psnr
from sora_jax.evaluation.statistics import Mean
from sora_jax.evaluation.suite import Case, cases, resized
from sora_jax.evaluation.suites import SUITES
from sora_jax.evaluation.suites.text import Text
from sora_jax.generation.pipeline import Pipeline

SIZE = Size(17, 64, 64)
NEW = 16
"""Frames that are made anew in each task."""
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
BEGINNINGS = 3
SHOWN = 6

Frames = np.ndarray
Clips = list[Frames]


class Tasks:
    """The clips, what the model makes of them, and the rows and notes of a task."""

    def __init__(
        self, pipeline: Pipeline, scenes: int, settings: dict[str, Any], out: Path
    ) -> None:
        self.pipeline, self.settings, self.out = pipeline, settings, out
        self.asked = cases(Text(size=SIZE._replace(frames=SIZE.frames + NEW)), scenes, seed=11)
        self.true = [case.frames() for case in self.asked]
        self.given = [clip[: SIZE.frames] for clip in self.true]
        self.captions = [case.caption for case in self.asked]
        codec = pipeline.codec()
        self.back = [codec.decode(codec.encode(clip))[0] for clip in self.given]
        self.coded = [codec.decode(codec.encode(clip))[0] for clip in self.true]
        self.moving = [
            i for i, case in enumerate(self.asked) if case.scene.sprites[0].motion != "still"
        ]
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.sheets: list[str] = []

    def row(
        self,
        task: str,
        measure: str,
        *,
        span: tuple[float, float] | None = None,
        **arms: Sequence[float],
    ) -> None:
        """`span` is what single values can lie in."""
        means = {arm: Mean.of(list(x), span=span) for arm, x in arms.items()}
        told = {arm: [mean.value, mean.low, mean.high] for arm, mean in means.items()}
        self.rows.append({"task": task, "measure": measure, **told})

    def each(self, task: str, make: Callable[[int], Frames]) -> Clips:
        """What is made of each clip, and a sheet of the first."""
        made = [make(index) for index in track(range(len(self.given)), task, transient=True)]
        self.draw(task, made[:SHOWN], self.captions[:SHOWN])
        return made

    def draw(self, name: str, clips: Clips, captions: Sequence[str], columns: int = 9) -> None:
        """A sheet of some clips."""
        file = f"{name.replace(' ', '_')}.jpg"
        sheet = contact_sheet(clips, captions, columns=columns, height=96)
        Image.fromarray(sheet).save(self.out / file, quality=85)
        self.sheets.append(file)

    def of(self, index: int, seed: int = 0) -> dict[str, Any]:
        """The settings for clip `index`: each clip has noise of its own, each seed another."""
        return self.settings | {"seed": BEGINNINGS * index + seed}

    def others(self, clips: Clips) -> Clips:
        return [*clips[1:], clips[0]]

    def given_back(self, task: str, pairs: Sequence[tuple[Frames, Frames, Frames]]) -> None:
        """Of (made, given, reconstruction); equal frames count as 100 dB."""

        def likeness(one: Frames, other: Frames) -> float:
            return float(np.minimum(psnr(one, other), 100).mean())

        lost = [likeness(made, true) - likeness(back, true) for made, true, back in pairs]
        true, back = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
        cut = [
            likeness(other, one) - likeness(coded, one)
            for other, one, coded in zip(self.others(true), true, back, strict=True)
        ]
        self.row(task, "given back, dB", model=lost, cut=cut)

    def join(self, task: str, made: Clips, at: int, real: Clips, real_at: int) -> None:
        """Seam and velocity at frame `at` of what was made, `real_at` of real clips; after a single
        frame, which has no velocity, the seam alone."""
        cut = [joins.hard_cut(*p, real_at) for p in zip(real, self.others(real), strict=True)]
        fade = [
            joins.cross_fade(*p, real_at - 2, real_at + 2)
            for p in zip(real, self.others(real), strict=True)
        ]
        still = [joins.frozen(clip, real_at, len(clip) - real_at) for clip in real]
        coded = self.coded if real is self.true else self.back
        arms = {"real": real, "codec": coded, "cut": cut, "fade": fade, "frozen": still}
        for name, measure, of in (
            ("seam", joins.seam_ratio, range(len(real))),
            ("velocity, px", joins.velocity_mismatch, self.moving),
        )[: 1 if at == 1 else 2]:
            self.row(
                task,
                name,
                model=[measure(made[i], at) for i in of],
                **{arm: [measure(clips[i], real_at) for i in of] for arm, clips in arms.items()},
            )

    def animate(self) -> None:
        made = self.each(
            "animate",
            lambda i: (
                self.pipeline.animate(self.given[i][0], self.captions[i], **self.of(i)).frames
            ),
        )
        codec = self.pipeline.codec()
        back = [codec.decode(codec.encode(clip[:1]))[0] for clip in self.given]
        self.given_back(
            "animate",
            [(m[:1], g[:1], b) for m, g, b in zip(made, self.given, back, strict=True)],
        )
        self.join("animate", made, 1, self.true, 1)
        self.slots("animate", made)

    def slots(self, task: str, made: Clips, asked: list[Case] | None = None) -> None:
        """Which slots of the captions the clips have, beside real clips and their first frames."""
        asked, suite = asked or self.asked, Text(size=SIZE)
        real = self.given if asked is self.asked else [case.frames() for case in asked]
        arms = {
            "model": made,
            "real": real,
            "cut": self.others(real),
            "frozen": [joins.frozen(clip, 1, len(clip) - 1) for clip in real],
        }
        if len(real[0]) == 1:
            del arms["frozen"]
        scored = {
            arm: [suite.scores(*pair) for pair in zip(asked, clips, strict=True)]
            for arm, clips in arms.items()
        }
        # Of the two no slot: none of these arms has things that nobody asked for.
        for name in (name for name in scored["model"][0] if name not in ("all", "alone")):
            values = {arm: [each[name] for each in found] for arm, found in scored.items()}
            self.row(task, name, span=(0, 1), **values)

    def image(self) -> None:
        for size in (Size(1, 64, 64), Size(1, 72, 128), Size(1, 128, 128)):
            asked, sides = cases(Text(size=size), len(self.given), seed=11), size._asdict()
            del sides["frames"]
            made = [
                self.pipeline.image(case.caption, **sides, **self.of(index)).frames
                for index, case in enumerate(track(asked, f"image {size}", transient=True))
            ]
            self.slots(f"image {size}", made, asked)
            captions = [case.caption for case in asked[: 2 * SHOWN]]
            self.draw(f"image {size}", made[: 2 * SHOWN], captions, columns=1)

    def sizes(self) -> None:
        for size in (Size(17, 64, 112), Size(17, 112, 64), Size(17, 56, 96)):
            longer = size._replace(frames=size.frames + NEW)
            asked = cases(Text(size=longer), len(self.given), seed=11)
            real = [case.frames() for case in asked]
            animated, extended = [], []
            for case, clip in track(list(zip(asked, real, strict=True)), str(size), transient=True):
                given = clip[: size.frames]
                made = self.pipeline.animate(given[0], case.caption, **self.of(len(animated)))
                animated.append(made.frames)
                how = self.of(len(extended))
                made = self.pipeline.extend(given, case.caption, frames=NEW, **how)
                extended.append(made.frames)
            short = [dataclasses.replace(case, size=size) for case in asked]
            self.slots(f"animate {size}", animated, short)
            self.row(
                f"extend {size}",
                "seam",
                model=[joins.seam_ratio(clip, size.frames) for clip in extended],
                real=[joins.seam_ratio(clip, size.frames) for clip in real],
            )
            self.row(
                f"extend {size}",
                "velocity, px",
                model=[joins.velocity_mismatch(clip, size.frames) for clip in extended],
                real=[joins.velocity_mismatch(clip, size.frames) for clip in real],
            )

    def forward(self) -> None:
        made = self.each(
            "extend forward",
            lambda i: (
                self.pipeline.extend(
                    self.given[i], self.captions[i], frames=NEW, **self.of(i)
                ).frames
            ),
        )
        kept = [clip[: SIZE.frames] for clip in made]
        self.given_back("extend forward", list(zip(kept, self.given, self.back, strict=True)))
        self.join("extend forward", made, SIZE.frames, self.true, SIZE.frames)

    def backward(self) -> None:
        # The ends of the clips, which in their world can have had a beginning.
        given = [clip[NEW:] for clip in self.true]
        codec = self.pipeline.codec()
        back = [codec.decode(codec.encode(clip))[0] for clip in given]

        def begun(i: int, seed: int) -> Frames:
            settings = self.of(i, seed)
            return self.pipeline.extend(
                given[i], self.captions[i], frames=NEW, direction="backward", **settings
            ).frames

        made = [
            self.each(f"extend backward {seed}", lambda i, seed=seed: begun(i, seed))
            for seed in range(BEGINNINGS)
        ]
        kept = [clip[NEW:] for clip in made[0]]
        self.given_back("extend backward", list(zip(kept, given, back, strict=True)))
        self.join("extend backward", made[0], NEW, self.true, NEW)
        self.diverse("sprites", self.true, [[c[:NEW] for c in clips] for clips in made])
        for suite in (SUITES["painting"], SUITES["shots"]):
            size, world = SIZE._replace(frames=SIZE.frames + NEW), suite.world.name
            asked = cases(resized(suite, size), len(given), seed=11)
            true = [case.frames() for case in asked]
            begun_so: list[Clips] = []
            for seed in range(BEGINNINGS):
                how = {"direction": "backward", "frames": NEW}
                begun_so.append(
                    [
                        self.pipeline.extend(
                            true[i][NEW:], case.caption, **how, **self.of(i, seed)
                        ).frames[:NEW]
                        for i, case in enumerate(track(asked, f"{world} {seed}", transient=True))
                    ]
                )
            self.diverse(world, true, begun_so)
            self.draw(
                f"beginnings {world}",
                [np.concatenate([begun_so[seed][0], true[0][NEW:]]) for seed in range(BEGINNINGS)],
                [f"{world} {seed + 1}" for seed in range(BEGINNINGS)],
            )

    def diverse(self, world: str, true: Clips, beginnings: Sequence[Clips]) -> None:
        """How beginnings [seed][clip] of the same clips differ."""
        codec = self.pipeline.codec()
        twice = []
        for clip in true:
            # From another frame on, so that a frame has another place within its latent.
            late = codec.decode(codec.encode(clip[2:]))[0]
            twice.append((codec.decode(codec.encode(clip))[0][2:NEW], late[: NEW - 2]))
        self.row(
            f"extend backward, {world}",
            "diversity, grey levels",
            model=[joins.diversity(each) for each in zip(*beginnings, strict=True)],
            codec=[joins.diversity(pair) for pair in twice],
            cut=[joins.diversity(p) for p in zip(true, self.others(true), strict=True)],
        )

    def loop(self) -> None:
        made = self.each(
            "loop",
            lambda i: self.pipeline.loop(self.given[i][:16], frames=NEW, **self.of(i)).frames,
        )
        self.given_back(
            "loop",
            [(m[:16], g[:16], b[:16]) for m, g, b in zip(made, self.given, self.back, strict=True)],
        )
        self.join("loop", made, 16, self.true, SIZE.frames)
        self.closure("loop", made)
        # The end before the beginning, as it is when a loop goes round.
        round_again = [np.roll(clip, len(clip) // 2, axis=0) for clip in made]
        at = len(made[0]) // 2
        self.join("loop, end to beginning", round_again, at, self.true, SIZE.frames)
        for ending in ("mp4", "gif"):
            file, written = self.out / f"loop.{ending}", []
            for clip in made:
                file.unlink(missing_ok=True)
                write_video(file, clip, fps=self.pipeline.fps)
                # A GIF has equal frames once, which its own rate would leave out.
                written.append(read_clip(file, fps=self.pipeline.fps))
            file.unlink()
            self.closure(f"loop, {ending}", written)
        texts = self.each(
            "loop of text",
            lambda i: self.pipeline.loop(prompt=self.captions[i], frames=NEW, **self.of(i)).frames,
        )
        self.closure("loop of text", texts)

    def closure(self, task: str, made: Clips) -> None:
        self.row(
            task,
            "closure",
            model=[joins.loop_closure(clip) for clip in made],
            real=[joins.seam_ratio(clip, SIZE.frames) for clip in self.true],
            codec=[joins.seam_ratio(clip, SIZE.frames) for clip in self.coded],
            cut=[joins.loop_closure(clip) for clip in self.given],
            # Within the frames that lead back; the join itself is that of two clips that are one.
            fade=[
                joins.seam_ratio(
                    joins.cross_fade(clip, other, SIZE.frames - 2, SIZE.frames + 2), SIZE.frames
                )
                for clip, other in zip(self.true, self.others(self.true), strict=True)
            ],
            frozen=[
                joins.loop_closure(joins.frozen(clip, len(clip), NEW - 1)) for clip in self.given
            ],
        )

    def edit(self) -> None:
        suite, targets = Text(size=SIZE), self.asked[1:] + self.asked[:1]
        far, right, unlike = [], [], self.others(self.given)
        unedited = [_slots(suite, c, m) for c, m in zip(targets, self.back, strict=True)]
        true = [_slots(suite, c, m) for c, m in zip(targets, self.others(self.given), strict=True)]
        for strength in STRENGTHS:
            made = self.each(
                f"edit {strength}",
                lambda i, strength=strength: (
                    self.pipeline.edit(
                        self.given[i], targets[i].caption, strength=strength, **self.of(i)
                    ).frames
                ),
            )
            far.append([psnr(m, g).mean() for m, g in zip(made, self.given, strict=True)])
            right.append([_slots(suite, c, m) for c, m in zip(targets, made, strict=True)])
            self.row(
                f"edit {strength}",
                "faithfulness, dB",
                model=far[-1],
                codec=[psnr(b, g).mean() for b, g in zip(self.back, self.given, strict=True)],
                cut=[psnr(g, o).mean() for g, o in zip(self.given, unlike, strict=True)],
            )
            self.row(
                f"edit {strength}",
                "slots of the prompt",
                span=(0, 1),
                model=right[-1],
                real=true,
                codec=unedited,
            )
        # Nothing at the beginning, all at the end.
        made = self.each(
            "edit 0 to 1",
            lambda i: (
                self.pipeline.edit(
                    self.given[i], targets[i].caption, strength=(0.0, 0.0, 1.0), **self.of(i)
                ).frames
            ),
        )
        thirds = {"first": slice(0, 6), "last": slice(-6, None)}
        for name, part in thirds.items():
            self.row(
                f"edit 0 to 1, {name} frames",
                "faithfulness, dB",
                **{
                    arm: [
                        psnr(one[part], other[part]).mean()
                        for one, other in zip(clips, self.given, strict=True)
                    ]
                    for arm, clips in (("model", made), ("codec", self.back), ("cut", unlike))
                },
            )
        falls = -joins.monotone([float(np.mean(x)) for x in far])
        rises = joins.monotone([float(np.mean(x)) for x in right])
        self.notes.append(
            f"Edit: Spearman of strength with less faithfulness {falls:.2f}, "
            f"with slots of the prompt {rises:.2f}."
        )

    def connect(self) -> None:
        for strength in (0.0, 1.0):
            self.connected(strength)

    def connected(self, strength: float) -> None:
        second = self.others(self.given)
        task = f"connect {strength}"
        made = self.each(
            task,
            lambda i: (
                self.pipeline.connect(
                    self.given[i], second[i], frames=NEW, strength=strength, **self.of(i)
                ).frames
            ),
        )
        triples = [
            (np.concatenate([m[: SIZE.frames], m[-SIZE.frames :]]), np.concatenate([a, b]), back)
            for m, a, b, back in zip(
                made,
                self.given,
                second,
                [
                    np.concatenate(pair)
                    for pair in zip(self.back, self.others(self.back), strict=True)
                ],
                strict=True,
            )
        ]
        self.given_back(task, triples)
        self.join(f"{task}, first join", made, SIZE.frames, self.true, SIZE.frames)
        self.join(f"{task}, second join", made, SIZE.frames + NEW, self.true, SIZE.frames)
        pairs = list(zip(self.asked, self.asked[1:] + self.asked[:1], strict=True))
        steps = range(SIZE.frames - 1, SIZE.frames + NEW + 1)

        def ways(clips: Clips) -> list[list[float]]:
            return [
                [_towards(*pair, clip[at]) for at in steps]
                for pair, clip in zip(pairs, clips, strict=True)
            ]

        # The clips at rest before and after, and what leads from one to the other in no time or
        # evenly.
        still = [
            (a[-1:].repeat(NEW, 0), b[:1].repeat(NEW, 0))
            for a, b in zip(self.given, second, strict=True)
        ]
        middles = {
            "cut": [joins.hard_cut(*each, NEW // 2) for each in still],
            "fade": [joins.cross_fade(*each, 0, NEW - 1) for each in still],
        }
        arms = {"model": made} | {
            arm: [
                np.concatenate([a, m, b])
                for a, m, b in zip(self.given, between, second, strict=True)
            ]
            for arm, between in middles.items()
        }
        found = {arm: ways(clips) for arm, clips in arms.items()}
        self.row(
            task,
            "Spearman towards B",
            span=(-1, 1),
            **{arm: [joins.monotone(way) for way in each] for arm, each in found.items()},
        )
        self.row(
            task,
            "largest step towards B",
            span=(0, 2),
            **{arm: [np.abs(np.diff(way)).max() for way in each] for arm, each in found.items()},
        )
        between = slice(steps.start, steps.stop)
        self.row(
            task,
            "at once",
            span=(0, 1),
            **{
                arm: [(c := joins.changes(clip[between])).max() / c.sum() for clip in clips]
                for arm, clips in arms.items()
            },
        )

    def retake(self) -> None:
        targets = self.asked[1:] + self.asked[:1]
        made = self.each(
            "retake of frames 5 to 13",
            lambda i: (
                self.pipeline.retake(
                    self.given[i], self.captions[i], span=(5, 13), **self.of(i)
                ).frames
            ),
        )
        kept = [clip[:5] for clip in made]
        self.given_back(
            "retake of a span",
            [(k, g[:5], b[:5]) for k, g, b in zip(kept, self.given, self.back, strict=True)],
        )
        self.given_back(
            "retake of a span, after it",
            [(m[13:], g[13:], b[13:]) for m, g, b in zip(made, self.given, self.back, strict=True)],
        )
        self.join("retake of a span, first join", made, 5, self.given, 5)
        self.join("retake of a span, second join", made, 13, self.given, 13)
        half = self.each(
            "retake of the left half",
            lambda i: (
                self.pipeline.retake(
                    self.given[i], targets[i].caption, box=(0, 0, 64, 32), **self.of(i)
                ).frames
            ),
        )
        self.given_back(
            "retake of the left half",
            [
                (m[:, :, 32:], g[:, :, 32:], b[:, :, 32:])
                for m, g, b in zip(half, self.given, self.back, strict=True)
            ],
        )
        self.row(
            "retake of the left half",
            "border",
            model=[_border(clip, 32) for clip in half],
            real=[_border(clip, 32) for clip in self.given],
            cut=[
                _border(np.concatenate([b[:, :, :32], a[:, :, 32:]], axis=2), 32)
                for a, b in zip(self.given, self.others(self.given), strict=True)
            ],
        )

    def prototype(self) -> None:
        def both(i: int) -> Frames:
            sizes = {"height": SIZE.height, "width": SIZE.width}
            small = self.pipeline.generate(
                self.captions[i], frames=SIZE.frames, **sizes, **self.of(i)
            )
            large = {side: 2 * pixels for side, pixels in sizes.items()}
            fine = self.pipeline.refine(small, self.captions[i], **large, **self.of(i)).frames
            smalls.append(small.frames)
            return fine

        smalls: Clips = []
        made = self.each("prototype", both)
        reduced = [
            clip.reshape(len(clip), 64, 2, 64, 2, 3).mean((2, 4)).round().astype(np.uint8)
            for clip in made
        ]
        self.row(
            "prototype",
            "likeness to it, dB",
            model=[psnr(r, s).mean() for r, s in zip(reduced, smalls, strict=True)],
            cut=[psnr(r, s).mean() for r, s in zip(reduced, self.others(smalls), strict=True)],
        )
        self.slots("prototype, small", smalls)
        self.slots("prototype, refined", made)


def _slots(suite: Text, case: Case, frames: Frames) -> float:
    scores = suite.scores(case, frames)
    return float(np.mean([scores[name] for name in ("colour", "shape", "motion", "place")]))


def _border(frames: Frames, at: int) -> float:
    """The change of pixels from column `at` - 1 to `at`, over the mean of other columns."""
    change = np.abs(np.diff(frames.astype(float), axis=2)).mean(axis=(0, 1, 3))
    return float((change[at - 1] + 0.25) / (np.delete(change, at - 1).mean() + 0.25))


def _towards(first: Case, second: Case, frame: Frames) -> float:
    """Slots of one frame that are the second clip's, less those that are the first's: -1 to 1."""
    suite = Text(size=SIZE)
    names = ("colour", "shape", "place")
    one, two = (suite.scores(case, frame[None]) for case in (first, second))
    return float(np.mean([two[name] - one[name] for name in names]))


ABOUT = """`python experiments/worlds/tasks.py --scenes {scenes}`: clips of {size} pixels of one
sprite, {steps} steps, guidance {guidance}; loops of clips and connect without a prompt. Means with
their 95 % intervals; beside the model, what real clips have, the autoencoder's reconstructions, and
a hard cut, a cross-fade and a frozen frame. Each sheet shows clips one below the other, nine frames
of each, under the captions of the clips that were given. What is measured is told at the head of
the script.
"""

TASKS = (
    *("animate", "forward", "backward", "loop", "edit", "connect", "retake", "prototype"),
    *("image", "sizes"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS)
    parser.add_argument("--out", default="tasks")
    given = parser.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    pipeline = sora_jax.load(given.checkpoint)
    settings = {"steps": given.steps, "guidance": given.guidance}
    measures = b"".join(Path(file).read_bytes() for file in (__file__, joins.__file__))
    about = settings | {
        "scenes": given.scenes,
        "size": str(SIZE),
        "model": pipeline.fingerprint(),
        "measures": hashlib.sha256(measures).hexdigest()[:16],
    }
    found = _found(out / "tasks.json", about)
    tasks = Tasks(pipeline, given.scenes, settings, out)
    failed = False
    for name in given.tasks:
        start = time.monotonic()
        tasks.rows, tasks.notes, tasks.sheets = [], [], []
        try:
            getattr(tasks, name)()
        except Exception:
            # One that fails costs no other.
            traceback.print_exc()
            failed = True
            continue
        seconds = round(time.monotonic() - start)
        found[name] = {
            "rows": tasks.rows,
            "notes": tasks.notes,
            "sheets": tasks.sheets,
            "seconds": seconds,
        }
        print(f"{name}: {seconds} s", flush=True)
        (out / "tasks.json").write_text(json.dumps({"about": about, "tasks": found}, indent=1))
        _write(out, pipeline.source, about, found)
    print(_table(found))
    sys.exit(failed)


def _found(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run measured of other tasks, if by the same model, settings and measures."""
    if file.exists():
        kept = json.loads(file.read_text())
        if kept.get("about") == about:
            return kept["tasks"]
    return {}


def _table(found: dict[str, Any]) -> str:
    heads = ("model", "real", "codec", "cut", "fade", "frozen")
    lines = [f"| task | measure | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    known = [found[name] for name in TASKS if name in found]
    for row in (row for task in known for row in task["rows"]):
        cells = [
            "{:.2f} ({:.2f} to {:.2f})".format(*row[head]) if head in row else "" for head in heads
        ]
        lines.append(f"| {row['task']} | {row['measure']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(note for task in known for note in task["notes"])])


def _write(out: Path, source: str, about: dict[str, Any], found: dict[str, Any]) -> None:
    """The page, of the tasks so far."""
    drawn = (sheet for name in TASKS if name in found for sheet in found[name]["sheets"])
    sheets = "\n".join(
        f"\n## {Path(name).stem.replace('_', ' ').capitalize()}\n\n![{Path(name).stem}]({name})"
        for name in drawn
    )
    (out / "tasks.md").write_text(
        f"# The tasks of {source}\n\n{ABOUT.format(**about)}\n{_table(found)}\n{sheets}\n"
    )


if __name__ == "__main__":
    main()
