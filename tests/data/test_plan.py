"""Promises of the plan: every window once a pass, on any number of hosts, from any step."""

from __future__ import annotations

import collections
import itertools

import pytest

from sora_jax.arrays import Share
from sora_jax.data.buckets import Bucket
from sora_jax.data.plan import Plan, PlanError, PlannedRow
from sora_jax.data.windows import digest, windows_of
from tests.data.fake import MIXED, record

BOXES = tuple(
    Bucket(frames=frames, height=height, width=width, batch=4)
    for frames in (1, 9, 17)
    for height, width in ((64, 112), (80, 80), (112, 64))
)


def planned(image_share: float | None = None, seed: int = 0, copies: int = 3) -> Plan:
    records = [record(i, size) for i, size in enumerate(MIXED.sizes * copies)]
    windows = windows_of(records, BOXES)
    return Plan(windows=windows, buckets=BOXES, seed=seed, image_share=image_share)


def seen(plan: Plan, steps: range) -> list[int]:
    rows = itertools.chain.from_iterable(plan.step(n).rows for n in steps)
    return [row.window for row in rows if row]


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_epoch_holds_each_window_exactly_once(epoch: int):
    plan = planned()
    steps = range(epoch * plan.epoch_steps, (epoch + 1) * plan.epoch_steps)
    assert sorted(seen(plan, steps)) == list(range(len(plan.windows)))


def test_a_row_is_in_the_bucket_that_its_window_was_put_into():
    plan = planned()
    for n in range(plan.epoch_steps):
        batch = plan.step(n)
        assert len(batch.rows) == batch.bucket.batch
        for row in filter(None, batch.rows):
            assert plan.buckets[plan.windows.bucket[row.window]] == batch.bucket
            assert all(a <= b for a, b in zip(row.size, batch.bucket.size, strict=True))


def test_windows_of_a_clip_follow_one_another_and_leave_out_only_what_is_counted():
    windows = planned().windows
    for index, (frames, _, _) in enumerate(MIXED.sizes * 3):
        mine = windows.record == index
        starts, lengths = windows.start[mine], windows.frames[mine]
        assert list(starts) == [0, *itertools.accumulate(lengths[:-1])]
        assert all(length % 4 == 1 for length in lengths)
        assert lengths.sum() + windows.dropped[index] == frames


def test_epochs_differ_and_seeds_differ():
    plan = planned()
    one, two = range(plan.epoch_steps), range(plan.epoch_steps, 2 * plan.epoch_steps)
    assert seen(plan, one) != seen(plan, two)
    assert seen(plan, one) != seen(planned(seed=1), one)


def test_any_step_can_be_asked_for_in_any_order():
    forwards, backwards = planned(0.3), planned(0.3)
    steps = range(3 * forwards.epoch_steps)
    assert [forwards.step(n) for n in steps] == [backwards.step(n) for n in steps[::-1]][::-1]
    assert planned(0.3).step(10**9) == forwards.step(10**9)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_the_hosts_share_out_the_same_plan(hosts: int):
    plan = planned()
    plan.check_parts(hosts)
    for n in range(plan.epoch_steps):
        batch = plan.step(n)
        parts = [batch.rows_of(Share((host,), hosts)) for host in range(hosts)]
        assert {len(part) for part in parts} == {4 // hosts}
        assert tuple(itertools.chain.from_iterable(parts)) == batch.rows


def test_a_batch_that_hosts_cannot_share_is_refused_with_one_that_they_can():
    with pytest.raises(PlanError, match="multiple of 3, such as 6"):
        planned().check_parts(3)


def test_a_short_bucket_is_filled_with_empty_rows_and_not_left_out():
    records = [record(0, (9, 64, 64)), record(1, (1, 64, 64))]
    boxes = tuple(Bucket(frames=f, height=64, width=64, batch=8) for f in (1, 9, 17))
    plan = Plan(windows=windows_of(records, boxes), buckets=boxes)
    batches = [plan.step(n) for n in range(plan.epoch_steps)]
    assert [sum(row is not None for row in batch.rows) for batch in batches] == [1, 1]
    assert {batch.bucket.frames for batch in batches} == {1, 9}
    assert plan.used == boxes[:2]


def test_images_come_in_the_proportion_that_was_set_and_each_once_a_pass_of_their_own():
    plan = planned(0.25)
    boxes = [plan.step(n).bucket.frames == 1 for n in range(400)]
    for n in range(1, 401):
        assert sum(boxes[:n]) == int(n * 0.25)
    passes: dict[tuple[bool, int], list[int]] = collections.defaultdict(list)
    for n in range(8 * plan.epoch_steps):
        batch = plan.step(n)
        for row in filter(None, batch.rows):
            passes[batch.bucket.frames == 1, row.epoch].append(row.window)
    for still in (True, False):
        expected = sorted(
            w for w, b in enumerate(plan.windows.bucket) if (BOXES[b].frames == 1) == still
        )
        for epoch in range(2):
            assert sorted(passes[still, epoch]) == expected


def test_an_epoch_with_a_share_of_images_holds_every_window_of_videos():
    plan = planned(0.4)
    videos = {w for w, b in enumerate(plan.windows.bucket) if BOXES[b].frames > 1}
    assert videos <= set(seen(plan, range(plan.epoch_steps)))
    assert not videos <= set(seen(plan, range(plan.epoch_steps - 1)))


def test_an_impossible_share_of_images_is_refused():
    with pytest.raises(PlanError, match="between 0 and 1"):
        planned(1.0)
    records = [record(0, (9, 64, 64))]
    with pytest.raises(PlanError, match="no clip is a still image; set it to None"):
        Plan(windows=windows_of(records, BOXES), buckets=BOXES, image_share=0.2)


def test_an_empty_plan_is_refused():
    with pytest.raises(PlanError, match="nothing to train on"):
        Plan(windows=windows_of([], BOXES), buckets=BOXES)


def test_the_fingerprint_tells_changed_data_from_the_same():
    records = [record(i, size) for i, size in enumerate(MIXED.sizes)]

    def print_of(changed: list, **settings: int) -> str:
        plan = Plan(windows=windows_of(changed, BOXES), buckets=BOXES, **settings)
        return plan.fingerprint(digest(changed))

    prints = [
        print_of(records),
        print_of(records[:-1]),
        print_of(records[::-1]),
        print_of([*records[:-1], record(99, MIXED.sizes[-1])]),
        print_of(records, seed=1),
    ]
    assert prints[0] == print_of(list(records))
    assert len(set(prints)) == len(prints)


def test_random_numbers_of_a_row_depend_on_the_row_and_the_pass_alone():
    plan = planned()
    row = next(filter(None, plan.step(0).rows))
    again = PlannedRow(**{name: getattr(row, name) for name in row.__dataclass_fields__})
    assert plan.rng(row).random() == planned(0.3).rng(again).random()
    drawn = {plan.rng(r).random() for n in range(9) for r in plan.step(n).rows if r}
    assert len(drawn) == sum(r is not None for n in range(9) for r in plan.step(n).rows)
