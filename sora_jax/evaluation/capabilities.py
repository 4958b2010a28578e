"""What a model can do, measured on worlds whose state is read back from pixels.

A suite asks for clips of one world by their captions and scores each clip that comes back. The same
scores are taken of

    ceiling    the clips as the world draws them
    codec      those, encoded and decoded again: the best that the model's latents allow
    model      what the model makes of the captions
    crossed    the world's clip for another caption            (floors: clips of which one promise
    shuffled   its frames in random order                       is broken, and a measure must tell)
    frozen     its first frame all the time
    spliced    its first half, then the second half of another
    reversed   it backwards
    stretched  it wider and narrower again, as no thing with a size does
    bent       its rows moved to and fro, as nothing rigid does

Each measure names the floor that it is to tell from the ceiling. One whose ceiling and floor are
not five standard errors apart measures nothing here, and is marked as not counting.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from rich.progress import track
from rich.table import Table

from sora_jax.arrays import Size
from sora_jax.data.framing import resized
from sora_jax.data.worlds.world import Frames, Setting, World, stream
from sora_jax.evaluation.reconstruction import reconstructed
from sora_jax.generation.pipeline import Pipeline

FPS = 8.0
"""Frames per second of all suites."""

SIZE = Size(17, 64, 64)
"""Of their clips, if nothing else is said."""

Floor = Literal["crossed", "shuffled", "frozen", "spliced", "reversed", "stretched", "bent"]

APART = 5.0
"""Standard errors between ceiling and floor from which on a measure counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One measure of a suite.

    better   whether high or low values are.
    floor    the kind of broken clip that it must tell from a true one.
    about    what it is, in words, with its unit.
    yes_no   whether each clip has 1 or 0.
    """

    name: str
    better: Literal["high", "low"]
    floor: Floor
    about: str
    yes_no: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A clip that is asked for: a scene of a world, and the caption that describes it."""

    world: World
    scene: Any
    caption: str
    size: Size

    def frames(self) -> Frames:
        """The clip as its world draws it."""
        frames, height, width = self.size
        times = np.arange(frames) / FPS
        return self.world.render(self.scene, times, height=height, width=width)


@runtime_checkable
class Suite(Protocol):
    """What is asked of a model, and how what it makes is scored."""

    @property
    def name(self) -> str: ...

    @property
    def world(self) -> World: ...

    @property
    def size(self) -> Size:
        """Of the clips that are asked for, if nothing else is said."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def caption(self, scene: Any, rng: np.random.Generator) -> str:
        """What a model is told of a scene."""
        ...

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        """The value of each metric for one clip; NaN where it does not apply."""
        ...


def cases(suite: Suite, count: int, *, size: Size | None = None, seed: int = 0) -> list[Case]:
    """Returns `count` cases, none of which any training data holds by the same random numbers."""
    size = size or suite.size
    seconds = size.frames / FPS if size.frames > 1 else 0.0
    setting = Setting.of(height=size.height, width=size.width, seconds=seconds)
    found = []
    for index in range(count):
        # Training counts its streams by (seed, index, what for): a fourth number keeps clear.
        rng = stream(seed, index, 0, 1)
        scene = suite.world.scene(rng, setting)
        found.append(
            Case(world=suite.world, scene=scene, caption=suite.caption(scene, rng), size=size)
        )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over the clips to which a metric applies, with its 95 % interval.

    error  its standard error. For yes and no the interval is Wilson's (1927, doi
           10.1080/01621459.1927.10502953), which is not empty for a score of 100 %.
    """

    value: float
    low: float
    high: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], *, yes_no: bool = False) -> Mean:
        """Of values, without those that are NaN."""
        x = np.asarray(values, float)
        x = x[np.isfinite(x)]
        n = len(x)
        if not n:
            return cls(value=math.nan, low=math.nan, high=math.nan, error=math.nan, count=0)
        mean = float(x.mean())
        if yes_no:
            z = 1.96
            middle = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
            half = z / (1 + z**2 / n) * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
            return cls(
                value=mean,
                low=max(0.0, middle - half),
                high=min(1.0, middle + half),
                error=half / z,
                count=n,
            )
        error = float(x.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
        return cls(
            value=mean, low=mean - 1.96 * error, high=mean + 1.96 * error, error=error, count=n
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one suite, by arm: ceiling, codec, model and the floors."""

    suite: str
    metric: Metric
    arms: dict[str, Mean]

    @property
    def counts(self) -> bool:
        """Whether ceiling and floor are far enough apart for the metric to mean anything."""
        ceiling, floor = self.arms["ceiling"], self.arms[self.metric.floor]
        if not ceiling.count or not floor.count:
            return False
        gap = ceiling.value - floor.value
        if self.metric.better == "low":
            gap = -gap
        return gap > APART * math.hypot(ceiling.error, floor.error)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The measured table."""

    model: str
    samples: int
    rows: tuple[Row, ...]

    def tables(self) -> list[Table]:
        """To print."""
        table = Table(
            "suite",
            "measure",
            "model",
            "95 %",
            "codec",
            "ceiling",
            "floor",
            "counts",
            title=f"{self.model}: {self.samples} clips a suite",
        )
        for row in self.rows:
            table.add_row(*_cells(row))
        return [table]

    def markdown(self) -> str:
        """The same in Markdown."""
        lines = [
            "| suite | measure | model | 95 % | codec | ceiling | floor | counts |",
            "|---|---|---|---|---|---|---|---|",
        ]
        return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in self.rows)])

    def plot(self, path: str) -> None:
        """Draws model, codec and floor of each measure that counts on the way from its worst to its
        best value, with 95 % intervals, into a PNG.

        Raises ImportError, with what to install, where matplotlib is missing.
        """
        from sora_jax.evaluation.plots import draw_capabilities

        draw_capabilities(self, path)

    def to_json(self) -> str:
        """As JSON text."""
        fields = dataclasses.asdict(self)
        for row, made in zip(self.rows, fields["rows"], strict=True):
            made["counts"] = row.counts
        return json.dumps(fields, indent=1)


def measure(
    pipeline: Pipeline | None,
    suites: Sequence[Suite],
    *,
    samples: int = 48,
    size: Size | None = None,
    steps: int = 25,
    guidance: float = 3.0,
    batch: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Capabilities:
    """Returns the scores of a model, or of the worlds alone where `pipeline` is None.

    samples         clips of each suite and arm.
    size            of all clips; each suite's own by default.
    steps, guidance, batch  as in `Pipeline.generate`.
    """
    rows = []
    for suite in suites:
        asked = cases(suite, samples, size=size, seed=seed)
        arms = _floors(asked, seed)
        arms["ceiling"] = [case.frames() for case in asked]
        if pipeline is not None:
            arms["codec"] = [
                reconstructed(pipeline.vae, pipeline.vae_params, clip) for clip in arms["ceiling"]
            ]
            made = pipeline.generate(
                [case.caption for case in asked],
                **asked[0].size._asdict(),
                steps=steps,
                guidance=guidance,
                batch=batch,
                seed=seed,
                progress=progress,
            )
            arms["model"] = [clip.frames for clip in made]
        scored = {
            arm: [
                suite.scores(case, clip)
                for case, clip in track(
                    list(zip(asked, clips, strict=True)),
                    description=f"{suite.name}: {arm}",
                    disable=not progress,
                    transient=True,
                )
            ]
            for arm, clips in arms.items()
        }
        for metric in suite.metrics:
            means = {
                arm: Mean.of([scores[metric.name] for scores in found], yes_no=metric.yes_no)
                for arm, found in scored.items()
            }
            rows.append(Row(suite=suite.name, metric=metric, arms=means))
    name = pipeline.source if pipeline is not None else "worlds"
    return Capabilities(model=name, samples=samples, rows=tuple(rows))


def _floors(asked: Sequence[Case], seed: int) -> dict[str, list[Frames]]:
    clips = [case.frames() for case in asked]
    others = [*clips[1:], clips[0]]
    makers: dict[Floor, Callable[[Frames, Frames, np.random.Generator], Frames]] = {
        "crossed": lambda clip, other, rng: other,
        "shuffled": lambda clip, other, rng: clip[rng.permutation(len(clip))],
        "frozen": lambda clip, other, rng: np.repeat(clip[:1], len(clip), 0),
        "spliced": lambda clip, other, rng: np.concatenate(
            [clip[: len(clip) // 2], other[len(clip) // 2 :]]
        ),
        "reversed": lambda clip, other, rng: clip[::-1],
        "stretched": _stretched,
        "bent": _bent,
    }
    return {
        name: [
            make(clip, other, stream(seed, index, 1, 1))
            for index, (clip, other) in enumerate(zip(clips, others, strict=True))
        ]
        for name, make in makers.items()
    }


def _stretched(clip: Frames, _: Frames, rng: np.random.Generator) -> Frames:
    """Each frame in its middle part, up to a fifth narrower than it is high or the reverse."""
    count, height, width = clip.shape[:3]
    wave = np.sin(np.linspace(0, 2 * np.pi, count) + rng.uniform(0, 2 * np.pi))
    made = []
    for frame, amount in zip(clip, wave, strict=True):
        region = [height, width]
        region[int(amount > 0)] = round(region[int(amount > 0)] * (1 - 0.2 * abs(amount)))
        corner = ((height - region[0]) // 2, (width - region[1]) // 2)
        made.append(
            resized(frame[None], height, width, corner=corner, region=(region[0], region[1]))[0]
        )
    return np.stack(made)


def _bent(clip: Frames, _: Frames, rng: np.random.Generator) -> Frames:
    """Rows of each frame moved aside by up to a twentieth of the width, in waves that travel."""
    count, height, width = clip.shape[:3]
    phase = rng.uniform(0, 2 * np.pi) + np.linspace(0, 4 * np.pi, count)[:, None]
    wave = np.sin(phase + np.linspace(0, 3 * np.pi, height))
    column = np.arange(width) + np.rint(0.05 * width * wave).astype(int)[..., None]
    column = np.clip(column, 0, width - 1)
    return np.take_along_axis(clip, column[..., None], axis=2)


def _cells(row: Row) -> list[str]:
    arms = row.arms
    model = arms.get("model")
    interval = "" if model is None or not model.count else f"{_n(model.low)} to {_n(model.high)}"
    return [
        row.suite,
        f"{row.metric.name} ({'higher' if row.metric.better == 'high' else 'lower'} is better)",
        _mean(model),
        interval,
        _mean(arms.get("codec")),
        _mean(arms["ceiling"]),
        f"{_mean(arms[row.metric.floor])} {row.metric.floor}",
        "yes" if row.counts else "no",
    ]


def _mean(mean: Mean | None) -> str:
    return "" if mean is None else _n(mean.value)


def _n(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"
