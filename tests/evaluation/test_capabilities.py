"""Promises of the suites: they tell true clips from broken ones, and say so where they do not."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sora_jax.data.worlds.world import Frames
from sora_jax.evaluation import capabilities
from sora_jax.evaluation.capabilities import Capabilities, Row, measure
from sora_jax.evaluation.plots import draw_capabilities
from sora_jax.evaluation.statistics import Mean
from sora_jax.evaluation.suite import Metric, cases
from sora_jax.evaluation.suites import SUITES

SAMPLES = 40


@functools.cache
def measured(name: str) -> Capabilities:
    return measure(None, [SUITES[name]], samples=SAMPLES)


SLOW = [pytest.param(name, marks=[pytest.mark.slow] * (name != "text")) for name in SUITES]
"""The scores of all suites take two minutes."""


@pytest.mark.parametrize("name", SLOW)
def test_every_measure_tells_true_clips_from_broken_ones(name: str) -> None:
    rows = {row.metric.name: row for row in measured(name).rows}
    assert {row.metric.name for row in rows.values()} == {m.name for m in SUITES[name].metrics}
    # Long occlusions are rare: so few clips do not tell of them.
    silent = [key for key, row in rows.items() if not row.counts and "_after_" not in key]
    assert not silent, [(key, rows[key].arms) for key in silent]


@pytest.mark.parametrize("name", SLOW)
def test_true_clips_have_perfect_scores(name: str) -> None:
    for row in measured(name).rows:
        ceiling = row.arms["ceiling"].value
        if row.metric.name in {"reprojection", "sampson"}:
            assert ceiling < 0.3  # pixels
        elif row.metric.name in {"fall_error", "beyond_rank_3", "area_error", "exit_error"}:
            assert ceiling < 0.08
        elif row.metric.name in {"return_over_random", "moves"}:
            assert ceiling > 0.5
        elif "_after_" not in row.metric.name or row.arms["ceiling"].count:
            assert row.arms["ceiling"].count >= (1 if "_after_" in row.metric.name else 12)
            assert ceiling == pytest.approx(float(row.metric.better == "high"), abs=0.04), row


def test_cases_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    suite = SUITES["text"]
    one, same, other = (cases(suite, 3, seed=seed) for seed in (0, 0, 1))
    assert [case.caption for case in one] == [case.caption for case in same]
    assert [case.caption for case in one] != [case.caption for case in other]
    np.testing.assert_array_equal(one[2].frames(), same[2].frames())


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for draw, truth, yes_no in (
        (lambda n: (rng.random(n) < 0.9).astype(float), 0.9, True),
        (lambda n: rng.normal(2.0, 1.0, n), 2.0, False),
    ):
        means = [Mean.of(draw(40).tolist(), yes_no=yes_no) for _ in range(500)]
        inside = np.mean([mean.low <= truth <= mean.high for mean in means])
        assert 0.92 < inside < 0.98
    perfect = Mean.of([1.0] * 20, yes_no=True)
    assert perfect.low < 0.9 and perfect.high == 1.0 and perfect.error > 0
    assert Mean.of([math.nan]).count == 0


def test_what_does_not_tell_is_marked_as_not_counting() -> None:
    metric = Metric(name="x", better="low", floor="frozen", about="")
    near, far = Mean.of([0.0, 1.0] * 10), Mean.of([3.0, 4.0] * 10)
    for ceiling, floor, counts in ((near, far, True), (near, near, False), (far, near, False)):
        arms = {"ceiling": ceiling, "frozen": floor}
        assert Row(suite="s", metric=metric, arms=arms, judged={}).counts == counts


def test_the_table_can_be_kept() -> None:
    found = measured("text")
    rows = json.loads(found.to_json())["rows"]
    assert rows[0]["suite"] == "text" and rows[0]["counts"] is True
    assert found.markdown().count("\n|") == 1 + len(rows)
    assert "real clips" in found.markdown() and json.loads(found.to_json())["distances"]


def test_a_poor_clip_scores_poorly_and_breaks_nothing() -> None:
    rng = np.random.default_rng(0)
    for suite in SUITES.values():
        (case,) = cases(suite, 1)
        shape = case.frames().shape
        noise: Frames = rng.integers(0, 255, shape, np.uint8)
        for clip in (noise, np.zeros(shape, np.uint8)):
            scores = suite.scores(case, clip)
            assert scores.keys() == {metric.name for metric in suite.metrics}
            assert not any(math.isinf(value) for value in scores.values())


class Blind:
    """A model of black clips, with an autoencoder that gives back what it is shown."""

    fps, source, vae_params = 8.0, "blind", None

    def vae(self) -> None: ...

    def generate(self, prompts: list[str], **settings: Any) -> list[Any]:
        size = (settings["frames"], settings["height"], settings["width"], 3)
        return [SimpleNamespace(frames=np.zeros(size, np.uint8)) for _ in prompts]


def test_black_clips_are_as_bad_as_broken_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "reconstructed", lambda vae, params, clip: clip)
    blind: Any = Blind()
    found = unwrap(measure)(blind, [SUITES["objects"], SUITES["falling"]], samples=6)
    for row in found.rows:
        floor = row.arms[row.metric.floor].value
        assert row.judged == {"codec": 6, "model": 0}
        assert row.arms["model"].value == pytest.approx(floor)
        assert row.arms["codec"].value == row.arms["ceiling"].value
    assert found.distances["model"] > 2 * found.distances["codec"] == 2 * found.distances["ceiling"]
    blind.fps = 24.0
    with pytest.raises(ValueError, match="24 frames per second"):
        unwrap(measure)(blind, [SUITES["text"]], samples=2)


def test_the_table_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    draw_capabilities(measured("text"), str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_suites_are_values() -> None:
    for suite in SUITES.values():
        assert dataclasses.replace(suite) == suite  # pyright: ignore[reportArgumentType]
