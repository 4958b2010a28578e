"""What the tasks of one model are worth, measured on fresh sprites: a table, and sheets to look at.

    python experiments/worlds/tasks.py [CHECKPOINT] --out tasks

Every task gets clips of one shape and their captions, by default 32 of 17 frames and 64 x 64
pixels; `sizes` animates and extends wide and tall ones, `image` makes stills. What takes most time,
`sizes` and the diversity of beginnings, is of FEW clips. Beside the model stand what real clips
have (the ceiling), these as the autoencoder gives them back, and what a hard cut, a cross-fade or a
frozen frame have (the floors), by the same measures (`evaluation.joins`):

    given back    PSNR of the given frames, less that of the autoencoder's own reconstruction, dB
    seam          the change at the join over the median change around it
    change        how much changes from frame to frame in what is new, over what does in the true
                  clip, of clips in which something moves: 0 at a standstill, more than 1 if it
                  flickers. A seam alone tells neither.
    velocity      how differently things move before and after the join, pixels per frame, of clips
                  in which something moves
    closure       the seam from the last frame of a loop to its first; mp4, gif: of one written to
                  an MP4 or a GIF and read back
    diversity     RMS difference of three beginnings with one ending, grey levels. Of a sprite the
                  ending tells the beginning; of a painting and of shots it does not. Codec: of the
                  same beginning coded in two ways, at other frames of a latent.
    faithfulness  PSNR of an edited clip against the clip, dB, by strength
    slots         the share of colour, shape, motion and place that are those of the edit's prompt;
                  of what is extended, retaken or a loop of text, each by itself over the whole clip
    unlike        how far a retaken span is from what it showed, RMS in grey levels, and from
                  another one of other noise
    half          colour and shape of a retaken half, of those of its prompt: of another clip on the
                  same ground whose thing stays in that half
    border        the change across the border of a region, over that between other columns
    connect S     by strength: at 0.0 both clips go on and one fades into the other, at 1.0 the
                  model alone leads over, and of 0 to 1 to 0 it makes the middle half of the fade.
                  The clips of a pair share neither colour, shape nor place where there is such a
                  one. Between the clips of the other arms is what truly follows the first and comes
                  before the second: cut in the middle, fading evenly into one another, or (frozen)
                  the last of the first until the second begins. Real and codec: one clip, going on.
                  Fade is what strength 0.0 does with what the model makes of both.
    towards B     connect: slots of a frame like the second clip's, less those like the first's, by
                  rank with the frames of each clip (of one step 0.87, of an even fade the ceiling);
                  largest step from a frame to the next
    at once       connect: the largest change from a frame to the next, of all change from the first
                  clip to the second
    one thing     connect: the share of new frames that show one thing, as each clip does: of two
                  that fade into one another none need do

Loops of clips and connect have no prompt; all others are guided by --guidance on their captions.

Writes OUT/tasks.md, OUT/tasks.json and a sheet for each task, after each of them. What tasks.json
holds of other tasks, by the same model, settings and code, stays on the page.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tasks_page
from PIL import Image

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
LEADS = {"0.0": 0.0, "1.0": 1.0, "0 to 1 to 0": (0.0, 1.0, 0.0)}
"""Strengths of connect."""
BEGINNINGS = 3
SHOWN = 6
FEW = 12
"""Clips, at most, of what takes most time: `sizes`, and the diversity of beginnings."""
SHARE = (0.0, 1.0)
SPANS = {
    "Spearman towards B": (-1.0, 1.0),
    "largest step towards B": (0.0, 2.0),
    "at once": SHARE,
    "one thing": SHARE,
}
"""What single values of measures can lie in."""

Frames = np.ndarray
Clips = list[Frames]
Scores = dict[str, list[float]]
"""The value of each clip, by measure."""


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
        self.moving = _moving(self.asked)
        self.partners = _partners(self.asked)
        self.few = min(FEW, scenes)
        self.real: dict[tuple[bool, int, int], dict[str, Scores]] = {}
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.sheets: list[str] = []

    def measured(self, name: str) -> dict[str, Any] | None:
        """What a task has on the page; None of one that fails, which costs no other."""
        start = time.monotonic()
        self.rows, self.notes, self.sheets = [], [], []
        try:
            getattr(self, name)()
        except Exception:
            traceback.print_exc()
            return None
        return {
            "rows": self.rows,
            "notes": self.notes,
            "sheets": self.sheets,
            "seconds": round(time.monotonic() - start),
        }

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

    def tell(self, task: str, **arms: Scores) -> None:
        """A row for each measure of the model, with the arms that have it."""
        for measure in arms["model"]:
            values = {arm: found[measure] for arm, found in arms.items() if measure in found}
            self.row(task, measure, span=SPANS.get(measure), **values)

    def each(self, task: str, make: Callable[[int], Frames], *, count: int | None = None) -> Clips:
        """What is made of each clip, or of the first `count`, and a sheet of some."""
        clips = range(len(self.given) if count is None else count)
        made = [make(index) for index in clips]
        shown = made[:SHOWN]
        self.draw(task, shown, self.captions[: len(shown)])
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

    def others(self, each: list[Any]) -> list[Any]:
        """Those of the next clip."""
        return [*each[1:], each[0]]

    def given_back(self, task: str, pairs: Sequence[tuple[Frames, Frames, Frames]]) -> None:
        """Of (made, given, reconstruction)."""
        others = self.others([true for _, true, _ in pairs])
        self.row(
            task,
            "given back, dB",
            model=[joins.given_back(*each) for each in pairs],
            cut=[
                joins.given_back(other, true, back)
                for other, (_, true, back) in zip(others, pairs, strict=True)
            ],
        )

    def join(
        self,
        task: str,
        made: Clips,
        at: int,
        real: Clips,
        real_at: int,
        *,
        codec_at: int | None = None,
    ) -> None:
        """Seam and velocity at frame `at` of what was made, `real_at` of real clips, and `codec_at`
        of reconstructions, where that is the same place of a latent."""
        beside = self.beside(real, real_at, codec_at or real_at)
        self.tell(task, model=_joined(made, at, self.moving), **beside)

    def beside(self, real: Clips, at: int, codec_at: int) -> dict[str, Scores]:
        """Seam and velocity of the other arms at frame `at`; `real` is `true` or `given`."""
        known = (real is self.true, at, codec_at)
        if known not in self.real:
            coded = self.coded if real is self.true else self.back
            arms = {"real": real, **_floors(real, self.others(real), at)}
            found = {arm: _joined(c, at, self.moving) for arm, c in arms.items()}
            self.real[known] = found | {"codec": _joined(coded, codec_at, self.moving)}
        return self.real[known]

    def lively(self, task: str, made: Clips, new: slice, real: Clips, there: slice) -> None:
        """The change in the frames `new` of what was made, over that `there` in real clips."""
        coded = self.coded if real is self.true else self.back

        def over(clips: Clips, part: slice) -> list[float]:
            return [
                float(joins.changes(clips[i][part]).mean() / joins.changes(real[i][there]).mean())
                for i in self.moving
            ]

        shuffled = np.random.default_rng(0).permutation(len(real[0][there]))
        self.row(
            task,
            "change",
            model=over(made, new),
            real=over(real, there),
            codec=over(coded, there),
            shuffled=over([clip[there][shuffled] for clip in real], slice(None)),
            frozen=over([clip[:1].repeat(2, 0) for clip in real], slice(None)),
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
        self.lively("animate", made, slice(None), self.given, slice(None))
        self.slots("animate", made, real=self.given)

    def slots(
        self,
        task: str,
        made: Clips,
        asked: list[Case] | None = None,
        *,
        real: Clips | None = None,
        floors: dict[str, Clips] | None = None,
    ) -> None:
        """Which slots of the captions the clips have, beside real clips and floors: by default
        those of others, and their first frames held."""
        asked, suite = asked or self.asked, Text(size=SIZE)
        real = real or [case.frames() for case in asked]
        if floors is None:
            floors = {"cut": self.others(real)}
            if len(real[0]) > 1:
                floors["frozen"] = [joins.frozen(clip, 1, len(clip) - 1) for clip in real]
        scored = {
            arm: [suite.scores(*pair) for pair in zip(asked, clips, strict=True)]
            for arm, clips in {"model": made, "real": real, **floors}.items()
        }
        # Of the two no slot: none of these arms has things that nobody asked for.
        for name in (name for name in scored["model"][0] if name not in ("all", "alone")):
            values = {arm: [each[name] for each in found] for arm, found in scored.items()}
            self.row(task, name, span=SHARE, **values)

    def image(self) -> None:
        for size in (Size(1, 64, 64), Size(1, 72, 128), Size(1, 128, 128)):
            asked, sides = cases(Text(size=size), len(self.given), seed=11), size._asdict()
            del sides["frames"]
            made = [
                self.pipeline.image(case.caption, **sides, **self.of(index)).frames
                for index, case in enumerate(asked)
            ]
            self.slots(f"image {size}", made, asked)
            captions = [case.caption for case in asked[: 2 * SHOWN]]
            self.draw(f"image {size}", made[: 2 * SHOWN], captions, columns=1)

    def sizes(self) -> None:
        for size in (Size(17, 64, 112), Size(17, 112, 64), Size(17, 56, 96)):
            longer = size._replace(frames=size.frames + NEW)
            asked = cases(Text(size=longer), self.few, seed=11)
            real, moving = [case.frames() for case in asked], _moving(asked)
            animated, extended = [], []
            for case, clip in zip(asked, real, strict=True):
                given = clip[: size.frames]
                made = self.pipeline.animate(given[0], case.caption, **self.of(len(animated)))
                animated.append(made.frames)
                how = self.of(len(extended))
                made = self.pipeline.extend(given, case.caption, frames=NEW, **how)
                extended.append(made.frames)
            short = [dataclasses.replace(case, size=size) for case in asked]
            self.slots(f"animate {size}", animated, short)
            at = size.frames
            floors = _floors(real, self.others(real), at)
            arms = {"model": extended, "real": real, **floors}
            self.tell(
                f"extend {size}", **{arm: _joined(clips, at, moving) for arm, clips in arms.items()}
            )
            self.slots(f"extend {size}", extended, asked, real=real, floors=floors)
            shown = slice(SHOWN // 2)
            self.draw(
                f"sizes {size}",
                [*animated[shown], *extended[shown]],
                [f"{how}: {c.caption}" for how in ("animate", "extend") for c in asked[shown]],
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
        at, new = SIZE.frames, slice(SIZE.frames, None)
        self.join("extend forward", made, at, self.true, at)
        self.lively("extend forward", made, new, self.true, new)
        floors = _floors(self.true, self.others(self.true), at)
        self.slots("extend forward", made, real=self.true, floors=floors)

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
            self.each(
                f"extend backward {seed}",
                lambda i, seed=seed: begun(i, seed),
                count=self.few if seed else None,
            )
            for seed in range(BEGINNINGS)
        ]
        kept = [clip[NEW:] for clip in made[0]]
        self.given_back("extend backward", list(zip(kept, given, back, strict=True)))
        # It lies between two latents; in a clip that is coded from its beginning, one frame later.
        self.join("extend backward", made[0], NEW, self.true, NEW, codec_at=NEW + 1)
        self.lively("extend backward", made[0], slice(NEW), self.true, slice(NEW))
        floors = {
            "cut": [
                joins.hard_cut(other, clip, NEW)
                for clip, other in zip(self.true, self.others(self.true), strict=True)
            ],
            "frozen": [joins.frozen(clip[::-1], SIZE.frames, NEW)[::-1] for clip in self.true],
        }
        self.slots("extend backward", made[0], real=self.true, floors=floors)
        first = slice(self.few)
        begun_so = [[clip[:NEW] for clip in clips[first]] for clips in made]
        self.diverse("sprites", self.true[first], begun_so)
        for suite in (SUITES["painting"], SUITES["shots"]):
            size, world = SIZE._replace(frames=SIZE.frames + NEW), suite.world.name
            asked = cases(resized(suite, size), self.few, seed=11)
            true = [case.frames() for case in asked]
            begun_so = []
            for seed in range(BEGINNINGS):
                how = {"direction": "backward", "frames": NEW}
                begun_so.append(
                    [
                        self.pipeline.extend(
                            true[i][NEW:], case.caption, **how, **self.of(i, seed)
                        ).frames[:NEW]
                        for i, case in enumerate(asked)
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
            cut=[
                joins.diversity([clip[:NEW] for clip in pair])
                for pair in zip(true, self.others(true), strict=True)
            ],
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
        self.lively("loop", made, slice(16, None), self.given, slice(None))
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
        self.lively("loop of text", texts, slice(None), self.given, slice(None))
        self.slots("loop of text", texts, real=self.given)

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
        suite, targets = Text(size=SIZE), self.others(self.asked)
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
                span=SHARE,
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
        first = self.given
        # The ends of the clips, which in their world can have had a beginning.
        second = [self.true[i][NEW:] for i in self.partners]
        # What truly follows the first, and comes before the second.
        gone = [clip[SIZE.frames :] for clip in self.true]
        come = [self.true[i][:NEW] for i in self.partners]
        pairs = list(zip(gone, come, strict=True))
        middles = {
            "cut": [joins.hard_cut(*pair, NEW // 2) for pair in pairs],
            "fade": [joins.cross_fade(*pair, 0, NEW) for pair in pairs],
            "frozen": [clip[-1:].repeat(NEW, 0) for clip in first],
        }
        floors = {
            arm: self.led([np.concatenate(each) for each in zip(first, over, second, strict=True)])
            for arm, over in middles.items()
        }
        real = self.beside(self.true, SIZE.frames, SIZE.frames)
        ceilings = {arm: real[arm] for arm in ("real", "codec")}
        codec = self.pipeline.codec()
        back = [codec.decode(codec.encode(clip))[0] for clip in second]
        for name, strength in LEADS.items():
            task = f"connect {name}"
            made = self.each(
                task,
                lambda i, strength=strength: (
                    self.pipeline.connect(
                        first[i], second[i], frames=NEW, strength=strength, **self.of(i)
                    ).frames
                ),
            )
            kept = [np.concatenate([m[: SIZE.frames], m[-SIZE.frames :]]) for m in made]
            given, coded = (
                [np.concatenate(pair) for pair in zip(*clips, strict=True)]
                for clips in ((first, second), (self.back, back))
            )
            self.given_back(task, list(zip(kept, given, coded, strict=True)))
            for part, found in self.led(made).items():
                beside = {arm: scores[part] for arm, scores in floors.items()}
                self.tell(f"{task}{part}", model=found, **ceilings, **beside)

    def led(self, clips: Clips) -> dict[str, Scores]:
        """What is measured of clips that lead from each clip to its partner, by part: at their
        joins, and from the last frame of the first to the first of the second."""
        first, second = SIZE.frames, SIZE.frames + NEW
        between = [clip[first - 1 : second + 1] for clip in clips]
        ways = [
            [_towards(a, self.asked[partner], frame) for frame in frames]
            for a, partner, frames in zip(self.asked, self.partners, between, strict=True)
        ]
        changes = [joins.changes(frames) for frames in between]
        counts = [
            case.world.read(f[1:-1]).count for case, f in zip(self.asked, between, strict=True)
        ]
        # Where the second clip is one in which something moves.
        later = [i for i, partner in enumerate(self.partners) if partner in self.moving]
        return {
            ", first join": _joined(clips, first, self.moving),
            ", second join": _joined(clips, second, later),
            "": {
                "Spearman towards B": [joins.monotone(way) for way in ways],
                "largest step towards B": [float(np.abs(np.diff(way)).max()) for way in ways],
                "at once": [float(change.max() / change.sum()) for change in changes],
                "one thing": [float(np.mean(count.sum(1) == 1)) for count in counts],
            },
        }

    def retake(self) -> None:
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
        self.lively("retake of a span", made, slice(5, 13), self.given, slice(5, 13))
        floors = {
            "cut": [
                np.concatenate([a[:5], b[5:13], a[13:]])
                for a, b in zip(self.given, self.others(self.given), strict=True)
            ],
            "frozen": [
                np.concatenate([joins.frozen(clip[:5], 5, 8), clip[13:]]) for clip in self.given
            ],
        }
        self.slots("retake of a span", made, real=self.given, floors=floors)
        again = self.each(
            "retake of frames 5 to 13, other noise",
            lambda i: (
                self.pipeline.retake(
                    self.given[i], self.captions[i], span=(5, 13), **self.of(i, 1)
                ).frames
            ),
            count=self.few,
        )

        def unlike(clips: Clips, others: Clips) -> list[float]:
            pairs = zip(clips, others, strict=False)
            return [joins.diversity([one[5:13], other[5:13]]) for one, other in pairs]

        self.row(
            "retake of a span",
            "unlike before, grey levels",
            model=unlike(made, self.given),
            codec=unlike(self.back, self.given),
            cut=unlike(self.others(self.given), self.given),
        )
        self.row(
            "retake of a span", "unlike one of other noise, grey levels", model=unlike(again, made)
        )
        targets = self.in_the_left_half()
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
        suite = Text(size=SIZE)
        lefts = {"model": half, "real": [case.frames() for case in targets], "codec": self.back}
        for name in ("colour", "shape"):
            self.row(
                "retake of the left half",
                f"half, {name}",
                span=SHARE,
                **{
                    arm: [
                        suite.scores(case, clip[:, :, :32])[name]
                        for case, clip in zip(targets, clips, strict=True)
                    ]
                    for arm, clips in lefts.items()
                },
            )
        self.row(
            "retake of the left half",
            "border",
            model=[joins.border_ratio(clip, 32) for clip in half],
            real=[joins.border_ratio(clip, 32) for clip in self.given],
            cut=[
                joins.border_ratio(np.concatenate([b[:, :, :32], a[:, :, 32:]], axis=2), 32)
                for a, b in zip(self.given, self.others(self.given), strict=True)
            ],
        )

    def in_the_left_half(self) -> list[Case]:
        """For each clip a case of another shape and colour on its ground that stays in the left
        half."""
        suite, found = Text(size=SIZE), dict[int, Case]()
        seeds = itertools.count(12)
        while len(found) < len(self.asked):
            for case in cases(suite, 256, seed=next(seeds)):
                fits = (
                    index
                    for index, asked in enumerate(self.asked)
                    if index not in found and _alike(asked, case) == [False, False, True]
                )
                half = case.frames()[:, :, : SIZE.width // 2]
                if (index := next(fits, None)) is not None and suite.scores(case, half)["all"]:
                    found[index] = case
        return [found[index] for index in range(len(self.asked))]

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


def _partners(asked: list[Case]) -> list[int]:
    """For each clip the next one that shares least of shape, colour and ground: nothing, if any."""
    found = []
    for index, case in enumerate(asked):
        later = [(index + step) % len(asked) for step in range(1, len(asked))] or [index]
        found.append(min(later, key=lambda other, case=case: sum(_alike(case, asked[other]))))
    return found


def _alike(case: Case, other: Case) -> list[bool]:
    """Whether two have one shape, one colour, one ground."""
    (one,), (two,) = case.scene.sprites, other.scene.sprites
    return [one.kind == two.kind, one.colour == two.colour, case.scene.place == other.scene.place]


def _moving(asked: list[Case]) -> list[int]:
    """The clips in which something moves."""
    return [i for i, case in enumerate(asked) if case.scene.sprites[0].motion != "still"]


def _floors(real: Clips, others: Clips, at: int) -> dict[str, Clips]:
    """Real clips that are cut to others at a frame, fade into them around it, or freeze there."""
    pairs = list(zip(real, others, strict=True))
    return {
        "cut": [joins.hard_cut(*pair, at) for pair in pairs],
        "fade": [joins.cross_fade(*pair, at - 2, at + 2) for pair in pairs],
        "frozen": [joins.frozen(clip, at, len(clip) - at) for clip in real],
    }


def _joined(clips: Clips, at: int, moving: list[int]) -> Scores:
    """The seam of clips at a frame, and the velocity of those that move; after a single frame,
    which has no velocity, the seam alone."""
    found = {"seam": [joins.seam_ratio(clip, at) for clip in clips]}
    if at > 1:
        found["velocity, px"] = [joins.velocity_mismatch(clips[i], at) for i in moving]
    return found


def _towards(first: Case, second: Case, frame: Frames) -> float:
    """Slots of one frame that are the second clip's, less those that are the first's: -1 to 1."""
    suite = Text(size=SIZE)
    names = ("colour", "shape", "place")
    one, two = (suite.scores(case, frame[None]) for case in (first, second))
    return float(np.mean([two[name] - one[name] for name in names]))


TASKS = (
    *("animate", "forward", "backward", "loop", "edit", "connect", "retake", "prototype"),
    *("image", "sizes"),
)


LONGEST = ("connect", "backward", "sizes", "prototype")
MOST = 8
"""Processes, at most: each takes about a gigabyte."""

_tasks: Tasks
"""What a process of several measures with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS)
    parser.add_argument("--jobs", type=int, help="processes; by default one for each CPU core")
    parser.add_argument("--out", default="tasks")
    given = parser.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    pipeline = sora_jax.load(given.checkpoint)
    settings = {"steps": given.steps, "guidance": given.guidance}
    about = settings | {
        "scenes": given.scenes,
        "few": min(FEW, given.scenes),
        "size": str(SIZE),
        "model": pipeline.fingerprint(),
        "code": _code(),
    }
    found = tasks_page.earlier(out / "tasks.json", about)
    failed = False
    # Those that take longest begin first.
    names = sorted(given.tasks, key=lambda name: name not in LONGEST)
    how = (given.checkpoint, given.scenes, settings, out)
    for name, measured in _measured_by(given.jobs, names, pipeline, how):
        if measured is None:
            failed = True
            continue
        found[name] = measured
        # The page has them in this order, whichever were made first.
        found = {name: found[name] for name in TASKS if name in found}
        print(f"{name}: {measured['seconds']} s", flush=True)
        (out / "tasks.json").write_text(json.dumps({"about": about, "tasks": found}, indent=1))
        tasks_page.write(out, pipeline.source, about, found)
    print(tasks_page.table(found))
    sys.exit(failed)


def _measured_by(
    jobs: int | None, names: list[str], pipeline: Pipeline, how: tuple[Any, ...]
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each task as it is done, by so many processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    # Memory of other devices is not shared.
    jobs = jobs or (min(cores, MOST) if jax.default_backend() == "cpu" else 1)
    if jobs == 1:
        tasks = Tasks(pipeline, *how[1:])
        yield from ((name, tasks.measured(name)) for name in names)
        return
    context = multiprocessing.get_context("spawn")
    begun = context.Value("i", 0)
    with ProcessPoolExecutor(jobs, context, _begin, (begun, *how)) as pool:
        waiting = {pool.submit(_measured, name): name for name in names}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _begin(begun: Any, checkpoint: str | None, *how: Any) -> None:
    """Begins a process that measures tasks, on a core of its own: on the same ones they would wait
    for each other."""
    if hasattr(os, "sched_setaffinity"):
        with begun.get_lock():
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[begun.value % len(cores)]})
            begun.value += 1
    global _tasks
    _tasks = Tasks(sora_jax.load(checkpoint), *how)


def _measured(name: str) -> dict[str, Any] | None:
    return _tasks.measured(name)


def _code() -> str:
    """Tells this script, and what of the package it may use, from other versions."""
    root = Path(sora_jax.__file__).parent
    apart = ("cli", "training", "importers", "baselines")
    files = [
        file for file in sorted(root.rglob("*.py")) if file.relative_to(root).parts[0] not in apart
    ]
    code = b"".join(file.read_bytes() for file in (Path(__file__), *files))
    return hashlib.sha256(code).hexdigest()[:16]


if __name__ == "__main__":
    main()
