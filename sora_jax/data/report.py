"""What training on some clips would be like, told before any training: `sora-jax describe DATA`."""

from __future__ import annotations

import dataclasses
import io
import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket, Grid
from sora_jax.data.datasets import Broken, OpenedSource, Record, frames_at
from sora_jax.data.framing import Framing
from sora_jax.data.pipeline import Clips
from sora_jax.data.plan import Plan, PlanError
from sora_jax.data.windows import Windows

SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Durations are counted between these."""

ASPECTS = (
    (9, 21),
    (9, 16),
    (2, 3),
    (3, 4),
    (4, 5),
    (1, 1),
    (5, 4),
    (4, 3),
    (3, 2),
    (16, 9),
    (21, 9),
)
"""Width to height; a clip is counted with the nearest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipUse:
    """What becomes of one clip. `frames` are at the rate that it is read at."""

    name: str
    frames: int
    height: int
    width: int
    seconds: float
    windows: int
    buckets: tuple[str, ...]
    dropped: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketUse:
    """What becomes of one bucket in a pass. `useful` is the used share of its paid tokens."""

    name: str
    batch: int
    clips: int
    windows: int
    steps: int
    empty_rows: int
    step_tokens: int
    useful: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that `render` prints.

    useful      share of the tokens of a pass that hold part of a clip, empty rows counted as paid.
    filled      the same without the empty rows.
    shortened   captions that the tokenizer cuts off at their end.
    cropped     share of all pixels that the framing cuts off.
    dropped     frames that no window holds, of `frames`.
    batches     steps of one pass (see plan.py on `image_share`).
    problem     why training would refuse this data; None if it would not.
    """

    source: str
    clips: tuple[ClipUse, ...]
    buckets: tuple[BucketUse, ...]
    broken: tuple[Broken, ...]
    uncaptioned: tuple[str, ...]
    shortened: int
    frames: int
    dropped: int
    useful: float
    filled: float
    cropped: float
    batches: int
    problem: str | None

    @property
    def usable(self) -> bool:
        """Whether any clip is."""
        return bool(self.clips)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON data."""
        return dataclasses.asdict(self)


def describe(data: Clips, opened: OpenedSource | None = None) -> Report:
    """Plans with `data`. Raises nothing on files that cannot be read.

    opened  its source, where that has been scanned already.
    """
    opened = opened or data.source.open()
    records = opened.records
    boxes, windows = data.lay_out(opened)
    batches, problem = 0, None
    try:
        batches = Plan(
            windows=windows, buckets=boxes, seed=data.seed, image_share=data.image_share
        ).epoch_steps
    except PlanError as error:
        problem = str(error)
    counts = [frames_at(record, data.fps) for record in records]
    uses = _bucket_uses(windows, boxes, data.grid)
    paid = sum(use.steps * use.step_tokens for use in uses)
    used = sum(use.useful * use.steps * use.step_tokens for use in uses)
    empty = sum(use.empty_rows * use.step_tokens // use.batch for use in uses)
    return Report(
        source=str(data.source),
        clips=tuple(_clip_uses(records, counts, windows, boxes)),
        buckets=tuple(uses),
        broken=tuple(opened.broken),
        uncaptioned=tuple(record.name for record in records if not record.captions),
        shortened=data.tokenizer.truncated([c.text for record in records for c in record.captions]),
        frames=sum(counts),
        dropped=int(windows.dropped.sum()),
        useful=used / max(1, paid),
        filled=used / max(1, paid - empty),
        cropped=_cropped(records, counts, data.policy),
        batches=batches,
        problem=problem,
    )


def _clip_uses(
    records: Sequence[Record], counts: Sequence[int], windows: Windows, boxes: Sequence[Bucket]
) -> Iterable[ClipUse]:
    ends = np.searchsorted(windows.record, np.arange(len(records) + 1))
    for index, (record, count) in enumerate(zip(records, counts, strict=True)):
        mine = windows.bucket[ends[index] : ends[index + 1]].tolist()
        yield ClipUse(
            name=record.name,
            frames=count,
            height=record.height,
            width=record.width,
            seconds=round(record.seconds, 3),
            windows=len(mine),
            buckets=tuple(str(boxes[bucket].size) for bucket in dict.fromkeys(mine)),
            dropped=int(windows.dropped[index]),
        )


def _bucket_uses(windows: Windows, boxes: Sequence[Bucket], grid: Grid) -> list[BucketUse]:
    used = _tokens(windows, grid)
    uses = []
    for index, box in enumerate(boxes):
        mine = windows.bucket == index
        number = int(mine.sum())
        steps = -(-number // box.batch)
        step_tokens = box.batch * grid.tokens(box.size)
        uses.append(
            BucketUse(
                name=str(box.size),
                batch=box.batch,
                clips=len(np.unique(windows.record[mine])),
                windows=number,
                steps=steps,
                empty_rows=steps * box.batch - number,
                step_tokens=step_tokens,
                useful=float(used[mine].sum() / (steps * step_tokens)) if steps else 0.0,
            )
        )
    return uses


def _tokens(windows: Windows, grid: Grid) -> Int[ndarray, "windows"]:
    """The tokens that each window uses."""
    sizes = np.stack([windows.frames, windows.height, windows.width], axis=1)
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    tokens = [grid.tokens(Size(*size)) for size in different.tolist()]
    return np.asarray(tokens, int)[which.reshape(-1)]


def _cropped(records: Sequence[Record], counts: Sequence[int], policy: Framing) -> float:
    there = kept = 0
    for record, count in zip(records, counts, strict=True):
        height, width = policy.region(record.height, record.width)
        there += count * record.height * record.width
        kept += count * height * width
    return 1 - kept / there if there else 0.0


def render(report: Report, *, width: int = 100, longest: int = 40) -> str:
    """The report as text, `width` characters wide.

    At most `longest` clips are listed one by one; files that cannot be read are all listed.
    """
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in (_summary(report), _bucket_table(report), _clip_table(report, longest)):
        if part is not None:
            console.print(part)
    for title, lines in (
        ("cannot be read", [f"{broken.name}: {broken.reason}" for broken in report.broken]),
        ("without a caption", _shortened(report.uncaptioned, longest)),
    ):
        if lines:
            console.print(f"\n{title}:", markup=False)
            for line in lines:
                console.print(f"  {line}", markup=False, soft_wrap=True)
    if report.problem:
        console.print(f"\nTraining would refuse this data: {report.problem}", markup=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _summary(report: Report) -> Table:
    table = Table("", "", show_header=False, box=None, title=report.source)
    videos = [clip.seconds for clip in report.clips if clip.seconds]
    table.add_row("clips", f"{len(report.clips)} ({len(videos)} videos, {_stills(report)} stills)")
    if videos:
        low, middle, high = min(videos), statistics.median(videos), max(videos)
        total = f"{sum(videos):.1f} s in all; shortest {low:.1f}, median {middle:.1f}"
        table.add_row("durations", f"{total}, longest {high:.1f}\n{_counted(_durations(videos))}")
    if report.clips:
        table.add_row("aspect ratios", _counted(_aspects(report)))
        useful = f"{100 * report.useful:.1f} % ({100 * report.filled:.1f} % without empty rows)"
        table.add_row("useful tokens", useful)
        table.add_row("pixels cropped", f"{100 * report.cropped:.1f} %")
        share = 100 * report.dropped / report.frames
        table.add_row("frames dropped", f"{report.dropped} of {report.frames} ({share:.1f} %)")
        table.add_row("batches per epoch", str(report.batches))
    table.add_row("unreadable", f"{len(report.broken)} (named below)" if report.broken else "none")
    table.add_row("without caption", str(len(report.uncaptioned)))
    table.add_row("captions cut off", str(report.shortened))
    return table


def _stills(report: Report) -> int:
    return sum(not clip.seconds for clip in report.clips)


def _bucket_table(report: Report) -> Table | None:
    if not report.buckets:
        return None
    table = Table(title="buckets (frames x height x width)", title_justify="left")
    for name in (
        "bucket",
        "batch",
        "clips",
        "windows",
        "batches",
        "empty rows",
        "tokens",
        "useful",
    ):
        table.add_column(name, justify="left" if name == "bucket" else "right")
    for use in report.buckets:
        numbers = (use.batch, use.clips, use.windows, use.steps, use.empty_rows, use.step_tokens)
        useful = f"{100 * use.useful:.1f} %" if use.windows else "unused"
        table.add_row(use.name, *map(str, numbers), useful)
    return table


def _clip_table(report: Report, longest: int) -> Table | None:
    if not report.clips:
        return None
    table = Table(title="clips", title_justify="left")
    for name in ("clip", "size", "seconds", "goes to", "windows", "dropped"):
        table.add_column(name, justify="right" if name in ("windows", "dropped") else "left")
    for clip in report.clips[:longest]:
        size = f"{clip.frames}x{clip.height}x{clip.width}"
        seconds = f"{clip.seconds:.2f}" if clip.seconds else "still"
        places = ", ".join(clip.buckets)
        table.add_row(clip.name, size, seconds, places, str(clip.windows), str(clip.dropped))
    if len(report.clips) > longest:
        table.add_row(f"and {len(report.clips) - longest} more")
    return table


def _shortened(lines: Sequence[str], longest: int) -> list[str]:
    more = [f"and {len(lines) - longest} more"] if len(lines) > longest else []
    return [*lines[:longest], *more]


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{label}: {number}" for label, number in counts if number)


def _durations(seconds: Sequence[float]) -> list[tuple[str, int]]:
    numbers, _ = np.histogram(seconds, [*SECONDS, np.inf])
    labels = [f"{low:g}-{high:g} s" for low, high in itertools.pairwise(SECONDS)]
    return list(zip([*labels, f"above {SECONDS[-1]:g} s"], numbers.tolist(), strict=True))


def _aspects(report: Report) -> list[tuple[str, int]]:
    ratios = np.log([width / height for width, height in ASPECTS])
    found = np.log([clip.width / clip.height for clip in report.clips])
    nearest = np.abs(found[:, None] - ratios).argmin(axis=1)
    numbers = np.bincount(nearest, minlength=len(ASPECTS)).tolist()
    return [(f"{w}:{h}", n) for (w, h), n in zip(ASPECTS, numbers, strict=True)]
