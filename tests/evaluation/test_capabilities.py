"""Promises of the suites: they tell true clips from broken ones, and say so where they do not."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import numpy as np
import pytest

from sora_jax.data.worlds.world import Frames
from sora_jax.evaluation.capabilities import Capabilities, Mean, Metric, Row, cases, measure
from sora_jax.evaluation.suites import SUITES

SAMPLES = 24


@functools.cache
def measured(name: str) -> Capabilities:
    return measure(None, [SUITES[name]], samples=SAMPLES)


@pytest.mark.parametrize("name", SUITES)
def test_every_measure_tells_true_clips_from_broken_ones(name: str) -> None:
    rows = {row.metric.name: row for row in measured(name).rows}
    assert {row.metric.name for row in rows.values()} == {m.name for m in SUITES[name].metrics}
    # Long occlusions are rare: so few clips do not tell of them.
    silent = [key for key, row in rows.items() if not row.counts and "_after_" not in key]
    assert not silent, [(key, rows[key].arms) for key in silent]


@pytest.mark.parametrize("name", SUITES)
def test_true_clips_have_perfect_scores(name: str) -> None:
    for row in measured(name).rows:
        ceiling = row.arms["ceiling"].value
        if row.metric.name in {"reprojection", "sampson"}:
            assert ceiling < 0.3  # pixels
        elif row.metric.name in {"fall_error", "beyond_rank_3", "area_error", "exit_error"}:
            assert ceiling < 0.08
        elif row.metric.name in {"return_over_random", "moves"}:
            assert ceiling > 0.5
        elif not math.isnan(ceiling):
            assert ceiling == pytest.approx(float(row.metric.better == "high"), abs=0.04), row


def test_cases_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    suite = SUITES["text"]
    one, same, other = (cases(suite, 3, seed=seed) for seed in (0, 0, 1))
    assert [case.caption for case in one] == [case.caption for case in same]
    assert [case.caption for case in one] != [case.caption for case in other]
    np.testing.assert_array_equal(one[2].frames(), same[2].frames())


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for draw, truth in (
        (lambda n: (rng.random(n) < 0.9).astype(float), 0.9),
        (lambda n: rng.normal(2.0, 1.0, n), 2.0),
    ):
        means = [Mean.of(draw(40)) for _ in range(500)]
        inside = np.mean([mean.low <= truth <= mean.high for mean in means])
        assert 0.92 < inside < 0.98
    assert Mean.of([1.0] * 20).low < 0.9 and Mean.of([1.0] * 20).high == 1.0
    assert Mean.of([math.nan]).count == 0


def test_what_does_not_tell_is_marked_as_not_counting() -> None:
    metric = Metric(name="x", better="low", floor="frozen", about="")
    near, far = Mean.of([0.0, 1.0] * 10), Mean.of([3.0, 4.0] * 10)
    assert Row(suite="s", metric=metric, arms={"ceiling": near, "frozen": far}).counts
    assert not Row(suite="s", metric=metric, arms={"ceiling": near, "frozen": near}).counts
    assert not Row(suite="s", metric=metric, arms={"ceiling": far, "frozen": near}).counts


def test_the_table_can_be_kept() -> None:
    found = measured("text")
    rows = json.loads(found.to_json())["rows"]
    assert rows[0]["suite"] == "text" and rows[0]["counts"] is True
    assert found.markdown().count("\n") == 1 + len(rows)


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


def test_suites_are_values() -> None:
    for suite in SUITES.values():
        assert dataclasses.replace(suite) == suite  # pyright: ignore[reportArgumentType]
