"""Promises of the suites: they tell true clips from broken ones, and say so where they do not."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sora_jax.arrays import Size
from sora_jax.data.captions import Bytes
from sora_jax.data.worlds.occluder import HIDDEN, WHOLLY
from sora_jax.data.worlds.occluder import State as Occluded
from sora_jax.data.worlds.occluder_scene import passage_of
from sora_jax.data.worlds.painter_strokes import BRUSH, distance
from sora_jax.data.worlds.world import FPS, Frames
from sora_jax.evaluation import capabilities
from sora_jax.evaluation.broken import broken
from sora_jax.evaluation.capabilities import measure
from sora_jax.evaluation.plots import check_plot, draw_capabilities
from sora_jax.evaluation.statistics import Mean
from sora_jax.evaluation.suite import Metric, cases, resized
from sora_jax.evaluation.suites import SUITES
from sora_jax.evaluation.suites.permanence import BINS, _passage
from sora_jax.evaluation.table import Capabilities, Row

FEW, MANY = 24, 48
"""Clips of the suite that is not slow, and of the others, as many as `evaluate` takes."""


@functools.cache
def measured(name: str) -> Capabilities:
    return measure(None, [SUITES[name]], samples=FEW if name == "text" else MANY)


SLOW = [pytest.param(name, marks=[pytest.mark.slow] * (name != "text")) for name in SUITES]
"""The scores of all suites take two minutes."""


@pytest.mark.parametrize("name", SLOW)
def test_every_measure_tells_true_clips_from_broken_ones(name: str) -> None:
    rows = {row.metric.name: row for row in measured(name).rows}
    assert {row.metric.name for row in rows.values()} == {m.name for m in SUITES[name].metrics}
    silent = [key for key, row in rows.items() if not row.counts]
    assert not silent, [(key, rows[key].arms) for key in silent]


@pytest.mark.parametrize("name", SLOW)
def test_true_clips_have_perfect_scores(name: str) -> None:
    for row in measured(name).rows:
        ceiling = row.arms["ceiling"].value
        if row.metric.name in {"reprojection", "sampson"}:
            assert ceiling < 0.3  # pixels
        elif row.metric.name.startswith(
            ("fall_error", "beyond_rank_3", "area_error", "exit_error")
        ):
            assert ceiling < 0.08
        elif row.metric.name in {"return_over_random", "moves"}:
            assert ceiling > 0.5
        else:
            assert row.arms["ceiling"].count >= 12
            assert ceiling == pytest.approx(float(row.metric.better == "high"), abs=0.04), row


def test_cases_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    suite = SUITES["text"]
    one, same, other = (cases(suite, 3, seed=seed) for seed in (0, 0, 1))
    assert [case.caption for case in one] == [case.caption for case in same]
    assert [case.caption for case in one] != [case.caption for case in other]
    np.testing.assert_array_equal(one[2].frames(), same[2].frames())


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for draw, truth, span in (
        (lambda n: (rng.random(n) < 0.9).astype(float), 0.9, (0.0, 1.0)),
        (lambda n: rng.uniform(0.2, 0.4, n), 0.3, (0.0, 1.0)),
        (lambda n: rng.normal(2.0, 1.0, n), 2.0, None),
    ):
        means = [Mean.of(draw(40), span=span) for _ in range(500)]
        inside = np.mean([mean.low <= truth <= mean.high for mean in means])
        assert inside > 0.92 and (inside < 0.98 or span)
    few = [Mean.of(rng.normal(2.0, 1.0, 4)) for _ in range(500)]
    assert 0.92 < np.mean([mean.low <= 2 <= mean.high for mean in few]) < 0.98


def test_an_interval_does_not_vanish_where_all_clips_are_alike() -> None:
    # Wilson's, of 20 of 20, by his formula.
    perfect = Mean.of([1.0] * 20, span=(0.0, 1.0))
    assert perfect.low == pytest.approx(1 / (1 + 1.96**2 / 20)) and perfect.high == 1.0
    middling = Mean.of([2.0] * 20, span=(0.0, 10.0))
    assert 0 < middling.low < 2 < middling.high and middling.error > 0
    assert Mean.of([math.nan]).count == 0 and Mean.of([1.0]).high == math.inf


def test_what_does_not_tell_is_marked_as_not_counting() -> None:
    metric = Metric(name="x", better="low", floor="frozen", about="")
    near, far = Mean.of([0.0, 1.0] * 10), Mean.of([3.0, 4.0] * 10)
    few = Mean.of([0.0, 0.0, 0.0], span=(0.0, 4.0))
    for ceiling, floor, counts in (
        (near, far, True),
        (near, near, False),
        (far, near, False),
        (few, far, False),
    ):
        arms = {"ceiling": ceiling, "frozen": floor}
        row = Row(suite="s", metric=metric, arms=arms, judged={}, judgeable=20, still_wins=False)
        assert row.counts == counts


def test_five_standard_errors_apart_is_what_counts() -> None:
    metric = Metric(name="x", better="low", floor="frozen", about="")
    for errors, counts in ((4.9, False), (5.1, True)):
        ceiling = Mean(value=0.0, low=-2.0, high=2.0, error=0.6, count=40)
        floor = Mean(value=errors, low=errors - 2, high=errors + 2, error=0.8, count=40)
        arms = {"ceiling": ceiling, "frozen": floor}  # errors of 0.6 and 0.8 are 1 together
        row = Row(suite="s", metric=metric, arms=arms, judged={}, judgeable=40, still_wins=False)
        assert row.counts == counts


def test_what_cannot_be_judged_widens_the_interval() -> None:
    metric = Metric(name="x", better="high", floor="crossed", about="", yes_no=True)
    arms = {arm: [{"x": 1.0}] * 40 for arm in ("ceiling", "frozen", "codec")}
    arms |= {arm: [{"x": 0.0}] * 40 for arm in ("crossed", "shuffled")}
    half = [{"x": 1.0}] * 20 + [{"x": math.nan}] * 20
    row = capabilities._row("s", metric, arms | {"model": half})
    model, codec = row.arms["model"], row.arms["codec"]
    assert (model.value, codec.value) == (0.5, 1.0)
    assert {arm: mean.count for arm, mean in row.judged.items()} == {"codec": 40, "model": 20}
    assert model.low < 0.4 and model.high == codec.high == 1.0 and row.judgeable == 40
    assert row.judged["model"].value == 1.0 and "20 of 40: 1.000" in row.cells()
    # What was judged of no clip is null.
    none = capabilities._row("s", metric, arms | {"model": [{"x": math.nan}] * 40})
    told = Capabilities(
        model="m", samples=40, settings={}, sizes={}, cut={}, rows=(none,), distances={}
    )
    assert json.loads(told.to_json())["rows"][0]["judged"]["model"]["value"] is None


def test_what_cannot_be_judged_is_no_better_than_what_can() -> None:
    metric = Metric(name="x", better="low", floor="crossed", about="")
    arms = {arm: [{"x": 0.0}, {"x": 0.1}] * 20 for arm in ("ceiling", "frozen", "codec")}
    arms |= {arm: [{"x": 0.9}, {"x": 1.0}] * 20 for arm in ("crossed", "shuffled")}
    half = [{"x": 1.9}, {"x": 2.1}] * 10 + [{"x": math.nan}] * 20
    assert capabilities._row("s", metric, arms | {"model": half}).arms["model"].value == 2.0


def test_true_clips_beyond_those_asked_for_tell_of_ceiling_and_floor_alone() -> None:
    metric = Metric(name="x", better="high", floor="crossed", about="", yes_no=True)
    arms = {arm: [{"x": 1.0}] * 20 + [{"x": math.nan}] * 60 for arm in ("ceiling", "frozen")}
    arms |= {arm: [{"x": 0.0}] * 80 for arm in ("crossed", "shuffled")}
    row = capabilities._row(
        "s", metric, arms | {arm: [{"x": 1.0}] * 40 for arm in ("codec", "model")}
    )
    assert row.judgeable == row.judged["codec"].count == row.judged["model"].count == 20
    assert row.arms["crossed"].count == 80 and row.arms["model"].count == 20


@pytest.mark.slow
def test_a_still_clip_that_wins_is_told() -> None:
    rows = {row.metric.name: row for row in measured("objects").rows}
    assert all(row.still_wins for row in rows.values())
    assert "1.000 wins" in measured("objects").markdown()
    rows = {row.metric.name: row for row in measured("text").rows}
    assert not rows["motion"].still_wins and rows["colour"].still_wins


def test_lengths_of_occlusion_are_those_of_what_is_asked_for() -> None:
    suite = SUITES["permanence"]
    for case in cases(suite, 12):
        scores = suite.scores(case, case.frames())
        told = {name for name, value in scores.items() if math.isfinite(value)}
        lengths = {
            round((passage.emerges - passage.enters) * FPS)
            for passage in (passage_of(mover, case.scene.bar) for mover in case.scene.movers)
        }
        for low, high in BINS:
            asked = any(low <= length <= high for length in lengths)
            assert asked == (f"reappears_after_{low}_to_{high}" in told)


@pytest.mark.parametrize("name", SUITES)
def test_too_few_frames_are_refused(name: str) -> None:
    suite = SUITES[name]
    with pytest.raises(ValueError, match=f"{name} cannot .* {suite.least - 1}x.* {suite.least} fr"):
        cases(resized(suite, suite.size._replace(frames=suite.least - 1)), 2)
    for case in cases(resized(suite, suite.size._replace(frames=suite.least)), 2):
        suite.scores(case, case.frames())


def test_the_table_can_be_kept() -> None:
    found = measured("text")
    rows = json.loads(found.to_json())["rows"]
    assert rows[0]["suite"] == "text" and rows[0]["counts"] and rows[0]["still_wins"]
    assert {"ceiling", "shuffled", "frozen", "crossed", "doubled"} == {*rows[0]["arms"]}
    settings = "(steps 25, guidance 3, seed 0)"
    assert found.markdown().startswith(f"worlds: {FEW} clips a suite {settings}\n")
    assert json.loads(found.to_json())["settings"] == {"steps": 25, "guidance": 3.0, "seed": 0}
    assert found.markdown().count("\n|") == 2 + len(rows)
    assert "real clips" in found.markdown() and json.loads(found.to_json())["distances"]


def test_what_vanishes_for_good_is_not_swapped() -> None:
    suite = SUITES["permanence"]
    vanishing = 0
    for case in cases(suite, 8):
        true = case.frames()
        hidden = suite.scores(case, true)["reappears"]
        if math.isnan(hidden):
            continue
        # From the middle on there is nothing but the ground and the bar.
        gone = true.copy()
        empty = case.world.render(
            dataclasses.replace(case.scene, movers=()),
            np.zeros(1),
            height=true.shape[1],
            width=true.shape[2],
        )
        gone[len(true) // 2 :] = empty
        scores = suite.scores(case, gone)
        if scores["reappears"] == 0.0:
            vanishing += 1
            assert math.isnan(scores["swapped"])
    assert vanishing


def empty_ground(case: Case, true: np.ndarray) -> np.ndarray:
    """The commonest colour of a clip, everywhere."""
    colours, counts = np.unique(true.reshape(-1, 3), axis=0, return_counts=True)
    return np.broadcast_to(colours[counts.argmax()], true.shape[1:])


def test_a_flicker_is_no_passage_and_a_way_out_at_another_height_is_an_error() -> None:
    view = np.full((12, 8), HIDDEN)
    view[:, 0] = WHOLLY
    view[2, 0] = HIDDEN
    view[6:9, 0] = HIDDEN
    centre = np.full((12, 8, 2), np.nan)
    centre[:, 0] = np.stack([np.full(12, 20.0), np.linspace(5, 60, 12)], -1)
    state = Occluded(
        place="snow",
        bar=np.tile([32.0, 45.0], (12, 1)),
        view=view,
        sure=np.ones((12, 8), bool),
        kind=np.where(view == WHOLLY, 1, -1),
        centre=centre,
    )
    told = _passage(state, 0, side=64)
    assert told == {"reappears": 1.0, "swapped": 0.0, "exit_error": pytest.approx(0, abs=1e-6)}
    # It comes out elsewhere, or not at all.
    moved = centre.copy()
    moved[9:, 0, 0] += 16
    told = _passage(dataclasses.replace(state, centre=moved), 0, side=64)
    assert told["exit_error"] == pytest.approx(0.25)
    lost = np.where(np.arange(12)[:, None] >= 6, HIDDEN, view)
    assert _passage(dataclasses.replace(state, view=lost), 0, side=64) == {"reappears": 0.0}
    # And what only flickers is not hidden.
    flickers = np.where(np.arange(12)[:, None] == 2, view, np.where(view == HIDDEN, WHOLLY, view))
    flickers[:, 1:] = HIDDEN
    assert _passage(dataclasses.replace(state, view=flickers), 0, side=64) == {}


def test_things_that_nobody_asked_for_are_seen_whatever_their_colour() -> None:
    text, objects = SUITES["text"], SUITES["objects"]
    for case in cases(text, 6):
        true = case.frames()
        (twice,) = broken([true], "doubled")
        assert text.scores(case, true)["alone"] == 1 and text.scores(case, twice)["alone"] == 0
    for case in cases(objects, 6):
        true = case.frames()
        (twice,) = broken([true], "doubled")
        assert objects.scores(case, true)["as_asked"] == 1
        assert objects.scores(case, twice)["as_asked"] <= 0.5
        # Another one of each colour comes in the middle, and goes again.
        number = len(case.scene.sprites)
        comes = objects.scores(case, np.concatenate([true[:8], twice[8:12], true[12:]]))
        assert comes["births"] == comes["deaths"] == pytest.approx(100 * number / 16)


def test_what_is_there_for_a_moment_alone_was_not_shown() -> None:
    suite, slots = SUITES["text"], ("colour", "shape", "motion")
    for case in cases(suite, 6):
        true = case.frames()
        bare = dataclasses.replace(case, scene=dataclasses.replace(case.scene, sprites=())).frames()
        vanishes = suite.scores(case, np.concatenate([true[:8], bare[8:]]))
        assert not any(vanishes[slot] for slot in slots) and not vanishes["all"]
        assert vanishes["place"] == 1
        ends = np.isin(np.arange(17), (0, 16))[:, None, None, None]
        blinks = suite.scores(case, np.where(ends, true, bare))
        assert not any(blinks[slot] for slot in slots)
        mostly = suite.scores(case, np.concatenate([true[:9], bare[9:]]))
        assert mostly["colour"] and mostly["shape"]
        # The shape of another clip in most frames, in the colour that was asked for.
        sprite = case.scene.sprites[0]
        wrong = dataclasses.replace(sprite, kind="cross" if sprite.kind != "cross" else "circle")
        other = dataclasses.replace(case, scene=dataclasses.replace(case.scene, sprites=(wrong,)))
        changes = suite.scores(case, np.concatenate([true[:8], other.frames()[8:]]))
        assert changes["colour"] and not changes["shape"]


def turned_round(clip: Frames) -> Frames:
    """All but the first frame and the last, backwards."""
    return np.concatenate([clip[:1], clip[-2:0:-1], clip[-1:]])


def late(clip: Frames) -> Frames:
    """Its first frame, and in the last one its end."""
    return np.concatenate([np.repeat(clip[:1], len(clip) - 1, 0), clip[-1:]])


def half(clip: Frames) -> Frames:
    """Its first frame for half of the time, then its first half."""
    return np.concatenate(
        [np.repeat(clip[:1], len(clip) // 2, 0), clip[: len(clip) - len(clip) // 2]]
    )


@pytest.mark.parametrize("broken_in_time", [turned_round, late, half])
def test_motion_is_that_of_all_frames(broken_in_time: Callable[[Frames], Frames]) -> None:
    suite, moving = SUITES["text"], 0
    for case in cases(suite, 16):
        true = case.frames()
        scores = suite.scores(case, broken_in_time(true))
        still = case.scene.sprites[0].motion == "still"
        moving += not still
        assert suite.scores(case, true)["motion"] == 1.0
        assert scores["motion"] == scores["all"] == float(still)
        assert scores["colour"] == scores["shape"] == 1.0
    assert 5 < moving < 16


@pytest.mark.parametrize("broken_in_time", [turned_round, late])
def test_a_camera_is_judged_by_its_whole_way(broken_in_time: Callable[[Frames], Frames]) -> None:
    suite = SUITES["geometry"]
    for case in cases(suite, 3):
        assert suite.scores(case, broken_in_time(case.frames()))["camera_motion"] == 0.0


def test_a_game_is_judged_between_its_steps_too() -> None:
    suite = SUITES["digital"]
    for case in cases(suite, 4):
        true = case.frames()
        # Each second frame is that of a state four steps on or back.
        flickers = true.copy()
        flickers[1::2] = np.roll(true[1::2], 4, 0)
        scores = suite.scores(case, flickers)
        assert scores["clear"] == 1.0 and scores["flicker"] == 1.0
        assert scores["explained"] == scores["moves"] == scores["until_violation"] == 0.0
        once = true.copy()
        once[9] = true[1]
        scores = suite.scores(case, once)
        assert scores["flicker"] == pytest.approx(1 / 8) and scores["until_violation"] == 0.5
        # A step that comes a frame late is none.
        delayed = true.copy()
        delayed[1::2] = true[:-1:2]
        assert suite.scores(case, delayed)["explained"] == 1.0


def test_a_brush_over_what_is_painted_already_paints_nothing() -> None:
    suite, told = SUITES["painting"], 0
    for case in cases(suite, 8):
        true = case.frames()
        count, height, width = true.shape[:3]
        times = np.arange(count) / FPS
        truth = case.world.truth(case.scene, times, height=height, width=width)
        under = distance(truth.centre, height=height, width=width) <= BRUSH * height + 1
        # The last picture all the time, and over it the brush where it is.
        finished = np.where(under[..., None], true, true[-1])
        created = suite.scores(case, true)["creation"]
        if not math.isnan(created):
            told += 1
            assert created > 0.8 and suite.scores(case, finished)["creation"] < 0.3
    assert told > 5


@pytest.mark.parametrize("name", ["eating", "shattering"])
def test_what_vanishes_is_not_conserved(name: str) -> None:
    suite, worse = SUITES[name], 0
    for case in cases(suite, 6):
        true = case.frames()
        state: Any = case.world.read(true)
        touched = state.contact if name == "eating" else state.touches == 1
        # Before the mouth touches, or right after the floor does.
        at = max(2, int(np.argmax(touched))) + (name == "shattering")
        gone = true.copy()
        gone[at:] = empty_ground(case, true)
        scores, whole = suite.scores(case, gone), suite.scores(case, true)
        if name == "eating":
            # Of so little food and mouth one may be taken for the other.
            if case.world.read(gone).contact[:at].any():
                continue
            assert scores["idle_change"] > whole["idle_change"] + 0.01
        else:
            assert scores["area_error"] == 1.0 and scores["reassembles"] == 1.0
        worse += 1
    assert worse > 2


def test_a_game_that_is_not_to_be_seen_breaks_no_rule_and_keeps_none() -> None:
    suite = SUITES["digital"]
    (case,) = cases(suite, 1)
    scores = suite.scores(case, np.zeros_like(case.frames()))
    assert scores["unclear"] == 1.0 and scores["explained"] == 0.0
    for key in ("birth", "death", "wall_crossing", "teleport", "return_over_random"):
        assert math.isnan(scores[key])


def test_a_camera_is_judged_by_the_frames_that_can_be_read() -> None:
    suite = SUITES["geometry"]
    for case in cases(suite, 3):
        clip = case.frames().copy()
        clip[[0, 8]] = 0
        assert suite.scores(case, clip)["camera_motion"] == 1.0
        clip[6:] = 0
        assert math.isnan(suite.scores(case, clip)["camera_motion"])


class Blind:
    """A model of black clips or of noise, with an autoencoder that gives back what it is shown."""

    fps, source, vae_params = 8.0, "blind", None
    tokenizer = Bytes(length=100)
    made = 0

    def __init__(self, *, noise: bool = False):
        self.brightest = 255 if noise else 1

    def vae(self) -> None: ...

    def fingerprint(self) -> str:
        return "blind"

    def generate(self, prompts: list[str], **settings: Any) -> list[Any]:
        self.made += len(prompts)
        size = (settings["frames"], settings["height"], settings["width"], 3)
        rng = np.random.default_rng(0)
        clip = rng.integers(0, self.brightest, size, np.uint8)
        return [SimpleNamespace(frames=clip) for _ in prompts]


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The autoencoder of a blind model."""
    monkeypatch.setattr(capabilities, "reconstructed", lambda vae, params, clip: clip)


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("name", SLOW)
def test_poor_clips_score_poorly_whether_they_can_be_judged_or_not(name: str, noise: bool) -> None:
    blind: Any = Blind(noise=noise)
    for row in unwrap(measure)(blind, [SUITES[name]], samples=8).rows:
        value, ceiling, floor = (
            row.arms[arm].value for arm in ("model", "ceiling", row.metric.floor)
        )
        # Nearer to the floor; of noise some pixels are taken for food, and change less than in
        # clips that are shuffled.
        assert (value - floor) / (ceiling - floor) < (0.7 if name == "eating" else 0.5), row


@pytest.mark.slow
@pytest.mark.usefixtures("copied")
def test_black_clips_are_as_bad_as_broken_ones() -> None:
    blind: Any = Blind()
    found = unwrap(measure)(blind, [SUITES["objects"], SUITES["falling"]], samples=6)
    for row in found.rows:
        floor = row.arms[row.metric.floor].value
        assert (row.judged["codec"].count, row.judged["model"].count) == (6, 0)
        assert row.arms["model"].value == pytest.approx(floor)
        assert row.arms["codec"].value == row.arms["ceiling"].value
    assert found.distances["model"] > 2 * found.distances["codec"] == 2 * found.distances["ceiling"]
    blind.fps = 24.0
    with pytest.raises(ValueError, match="24 frames per second"):
        unwrap(measure)(blind, [SUITES["text"]], samples=2)


@pytest.mark.usefixtures("copied")
def test_clips_that_are_kept_are_not_made_again(tmp_path: Path) -> None:
    blind: Any = Blind()

    def told(**settings: Any) -> str:
        how = {"samples": 2, "keep": tmp_path / "clips"} | settings
        return unwrap(measure)(blind, [SUITES["text"]], **how).to_json()

    first = told()
    assert blind.made == 2 and told() == first and blind.made == 2
    (file,) = (tmp_path / "clips").iterdir()
    # What the file says is what counts, and clips of other settings are others.
    case = cases(SUITES["text"], 2)[0]
    np.savez(file, clips=np.stack([case.frames()] * 2))
    assert told() != first and blind.made == 2
    for other in ({"seed": 1}, {"steps": 5}, {"guidance": 1.0}, {"samples": 3}):
        before = blind.made
        told(**other)
        assert blind.made > before
    blind.fingerprint = lambda: "others"
    before = blind.made
    told()
    assert blind.made == before + 2
    # What cannot be kept is told before anything is made, and what cannot be read is named.
    file.write_bytes(b"PK damaged")
    blind.fingerprint = lambda: "blind"
    with pytest.raises(ValueError, match=f"{file.name} cannot be read .*; remove it"):
        told()
    before = blind.made
    with pytest.raises(ValueError, match="no folder can be made there"):
        told(keep=file)
    assert blind.made == before


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_can_be_read_at_any_width(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in measured("text").tables(width):
        console.print(table)
    lines = console.export_text().splitlines()
    for name in ("colour", "alone"):
        (line,) = (each for each in lines if name in each)
        assert "1.000" in line and "yes" in line and "…" not in line


def test_stills_are_judged_by_what_they_can_show() -> None:
    found = unwrap(measure)(None, [SUITES["text"]], samples=12, size=Size(1, 64, 64))
    assert {row.metric.name for row in found.rows} == {"colour", "shape", "place", "all", "alone"}
    with pytest.raises(ValueError, match="16 pixels a side"):
        unwrap(measure)(None, [SUITES["text"]], samples=2, size=Size(17, 8, 64))


def test_a_thing_without_depth_is_told_from_a_thing_with() -> None:
    suite = SUITES["geometry"]
    asked = cases(suite, 16)
    clips = [case.frames() for case in asked]
    true, flat = (
        [suite.scores(case, clip)["depth"] for case, clip in zip(asked, made, strict=True)]
        for made in (clips, broken(clips, "flat"))
    )
    assert np.isfinite(true).sum() >= 8
    assert np.nanmin(true) > 0.8 and np.nanmax(flat) < 0.4


def test_the_table_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    out = tmp_path / "plot.svg"
    check_plot(str(out), samples=FEW)
    draw_capabilities(measured("text"), str(out))
    assert "text: colour (a still clip wins)" in out.read_text()
    with pytest.raises(ValueError, match=r"one of \.png"):
        check_plot("plot.mp4")
    with pytest.raises(ValueError, match="take 10 or more"):
        check_plot("plot.png", samples=4)
