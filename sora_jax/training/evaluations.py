"""What a run's evaluators measure on its way, each step once, whatever ends the run between."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from etils import epath

from sora_jax.parallel import processes
from sora_jax.training.metrics import Writer
from sora_jax.training.protocols import Evaluator, OpenedData
from sora_jax.training.train import Train
from sora_jax.training.watchdog import Watchdog

_MARK = "evaluated"
"""The file below a run's folder that holds the last step that all evaluators have looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluations:
    """Runs the evaluators of `train`; `writer` takes what they find, in the first process."""

    train: Train
    data: OpenedData
    folder: epath.Path
    watchdog: Watchdog
    writer: Writer | None

    def due(self, step: int) -> list[Evaluator]:
        """The evaluators that are to look at a step."""
        last = step == self.train.steps
        return [each for each in self.train.evaluators if last or step % each.every == 0]

    def done(self, step: int) -> bool:
        """Whether nothing ended the run between its saving of a step and the evaluators' end."""
        mark, there = self.folder / _MARK, True
        if processes.first() and self.due(step):
            there = mark.exists() and int(mark.read_text() or 0) >= step
        return processes.agreed(there)

    def run(self, step: int, params: Any) -> None:
        """Has those that are due look at the averaged parameters of a step."""
        due = self.due(step)
        for evaluator in due:
            with self.watchdog.other(f"measuring after step {step}"):
                metrics = evaluator(
                    self.train.objective, params, data=self.data, folder=self.folder, step=step
                )
                if metrics and self.writer is not None:
                    self.writer.write(step, metrics)
                processes.wait_for_all(f"{self.train.name}: step {step} is evaluated")
        if due and processes.first():
            # A full disk ends no run: at worst these are run once more.
            with contextlib.suppress(OSError):
                (self.folder / _MARK).write_text(str(step))
