"""The table of what a model can do: its rows, how it is printed and kept."""

from __future__ import annotations

import collections
import dataclasses
import json
import math

from rich import box
from rich.table import Table

from sora_jax.arrays import Size
from sora_jax.evaluation.broken import Floor
from sora_jax.evaluation.statistics import Mean
from sora_jax.evaluation.suite import Metric

_WIDE = 180
"""Columns that the whole table needs; below that it has those of _FEW."""

APART = 5.0
"""Standard errors between ceiling and floor from which on a measure counts."""

LEAST = 10
"""Clips of ceiling and floor from which on it may."""

_TINY = 1e-12

FLOORS: tuple[Floor, ...] = ("shuffled", "frozen", "crossed")
"""Those of which every measure is taken, beside the one that it must tell."""

_HEADS = (
    *("suite", "measure", "model", "95 %", "judged", "codec", "ceiling"),
    *(*FLOORS, "floor", "counts"),
)
_FEW = ("measure", "model", "95 %", "ceiling", "floor", "counts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one suite, by arm: ceiling, codec, model and the floors.

    judged      of model and codec, those clips alone that could be judged.
    judgeable   of how many: those whose true clip can be.
    still_wins  whether frozen clips are as good as true ones, but for chance.
    """

    suite: str
    metric: Metric
    arms: dict[str, Mean]
    judged: dict[str, Mean]
    judgeable: int
    still_wins: bool

    @property
    def counts(self) -> bool:
        """Whether ceiling and floor are far enough apart for the metric to mean anything."""
        ceiling, floor = self.arms["ceiling"], self.arms[self.metric.floor]
        return worse(self.metric, floor, ceiling) > APART

    def cells(self) -> list[str]:
        """As texts, under the heads of a table."""
        model = self.arms.get("model")
        known = model is not None and model.count
        arrow = "↑" if self.metric.better == "high" else "↓"
        floors = {arm: _text(self.arms[arm]) for arm in FLOORS}
        if self.still_wins:
            floors["frozen"] += " wins"
        judged = ""
        if alone := self.judged.get("model"):
            judged = f"{alone.count} of {self.judgeable}"
            if 0 < alone.count < self.judgeable:
                judged += f": {_number(alone.value)}"
        return [
            self.suite,
            f"{self.metric.name} {arrow}",
            _text(model),
            f"{_number(model.low)} to {_number(model.high)}" if model and known else "",
            judged,
            _spread(self.arms.get("codec")),
            _spread(self.arms["ceiling"]),
            *floors.values(),
            f"{_spread(self.arms[self.metric.floor])} {self.metric.floor}",
            "yes" if self.counts else "no",
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The measured table. An arrow says whether high or low values are good, and what stands after
    ± is the half of a 95 % interval.

    settings   how the model's clips were made: steps, guidance and seed.
    sizes      of the clips of each suite.
    cut        how many of each suite's captions are longer than what the model reads.
    distances  the latent Fréchet distance of each arm's clips, all suites together, from fresh
               clips of the same worlds; that of the ceiling is what real clips are apart.
    """

    model: str
    samples: int
    settings: dict[str, float | int]
    sizes: dict[str, Size]
    cut: dict[str, int]
    rows: tuple[Row, ...]
    distances: dict[str, float]

    @property
    def title(self) -> str:
        """Of the table: of what it is, how many clips it took, and how these were made."""
        how = ", ".join(f"{name} {value:g}" for name, value in self.settings.items())
        return f"{self.model}: {self.samples} clips a suite ({how})"

    def tables(self, width: int) -> list[Table]:
        """To print in so many columns: all of it, or of each suite what matters most."""
        if width >= _WIDE:
            table = Table(title=self.title)
            for head in _HEADS:
                table.add_column(head, no_wrap=head in ("suite", "measure"))
            for row in self.rows:
                table.add_row(*row.cells())
            tables = [table]
        else:
            tables = []
            for suite in dict.fromkeys(row.suite for row in self.rows):
                table = Table(title=suite, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
                for head in _FEW:
                    table.add_column(head, justify="left" if head == "measure" else "right")
                for row in self.rows:
                    if row.suite == suite:
                        cells = dict(zip(_HEADS, row.cells(), strict=True))
                        cells["ceiling"] = _text(row.arms["ceiling"])
                        cells["floor"] = _text(row.arms[row.metric.floor])
                        table.add_row(*(cells[head] for head in _FEW))
                tables.append(table)
            tables[0].title = f"{self.title}\n{tables[0].title}"
        tables[-1].caption = self._below()
        return tables

    def _below(self) -> str:
        usual = collections.Counter(self.sizes.values()).most_common(1)[0][0]
        others = [f"{name} {size}" for name, size in self.sizes.items() if size != usual]
        parts = [f"Clips of {', '.join([str(usual), *others])}."]
        if cut := [f"{name} {count}" for name, count in self.cut.items() if count]:
            parts.append(
                f"Captions longer than what the model reads, of {self.samples}: {', '.join(cut)}."
            )
        if any(row.still_wins for row in self.rows):
            parts.append("Where frozen wins, a still clip is as good as a true one.")
        named = {"ceiling": "real clips"}
        values = [f"{named.get(arm, arm)} {value:.2f}" for arm, value in self.distances.items()]
        parts.append(f"Latent Fréchet distance from fresh clips: {', '.join(values)}.")
        return " ".join(parts)

    def markdown(self) -> str:
        """The same in Markdown."""
        lines = [_HEADS, ["---"] * len(_HEADS), *(row.cells() for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self.title}\n\n{table}\n\n{self._below()}"

    def to_json(self) -> str:
        """As JSON text; what is not known is null."""
        fields = dataclasses.asdict(self)
        for row, made in zip(self.rows, fields["rows"], strict=True):
            made["counts"] = row.counts
            for mean in (*made["arms"].values(), *made["judged"].values()):
                mean |= {k: None for k, v in mean.items() if not math.isfinite(v)}
        return json.dumps(fields, indent=1, allow_nan=False)


def worse(metric: Metric, one: Mean, other: Mean) -> float:
    """By how many standard errors one is worse than another; NaN where few clips tell of either."""
    if min(one.count, other.count) < LEAST:
        return math.nan
    gap = other.value - one.value if metric.better == "high" else one.value - other.value
    return gap / max(math.hypot(one.error, other.error), _TINY)


def _text(mean: Mean | None) -> str:
    return "" if mean is None else _number(mean.value)


def _spread(mean: Mean | None) -> str:
    """A mean with the half of its interval."""
    if mean is None or not mean.count:
        return _text(mean)
    return f"{_number(mean.value)} ± {_number((mean.high - mean.low) / 2)}"


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"
