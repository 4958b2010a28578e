"""What a clip takes is told, and refused where it is too much, before any work."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sora_jax.arrays import Size
from sora_jax.generation import memory
from sora_jax.generation.memory import available_bytes, needed
from sora_jax.generation.model import GenerativeModel
from sora_jax.generation.pixels import LEAST_TILE
from sora_jax.models import block_vae, dit
from tests.generation.untrained import FAST, clip, untrained

LARGE = Size(17, 800, 640)


def small(*, frames: int = 0) -> GenerativeModel:
    """A model of the smallest presets, whose parameters are not needed."""
    plain = untrained(frames=frames)
    model = dit.PRESETS["1M"](latent_channels=16, text_width=8)
    return dataclasses.replace(
        plain,
        denoiser=dataclasses.replace(plain.denoiser, model=model),
        vae=block_vae.PRESETS["small"](latent_channels=16),
    )


@pytest.fixture
def room(monkeypatch: Any) -> Any:
    """Sets the memory that there is, none of it in use."""
    monkeypatch.setattr(memory, "in_use_bytes", lambda: 0)
    monkeypatch.setattr(memory, "free_bytes", lambda: None)

    def given(there: int | None) -> None:
        monkeypatch.setattr(memory, "available_bytes", lambda: there)

    return given


def test_less_memory_leads_to_smaller_tiles_and_then_to_a_refusal(room: Any) -> None:
    room(None)
    whole = needed(small(), LARGE, estimates=1)
    assert whole.tile is None and "17x800x640 needs about" in str(whole)
    room(20 * whole.bytes)
    assert needed(small(), LARGE, estimates=1) == whole
    room(3 * whole.bytes)
    some = needed(small(), LARGE, estimates=1)
    assert LEAST_TILE < (some.tile or 0) < 100 and some.bytes < whole.bytes
    assert f"tiles of {some.tile} latents" in str(some)
    room(whole.bytes // 8)
    with pytest.raises(MemoryError, match=r"17x800x640 needs about .* fewer frames .* guidance 1"):
        needed(small(), LARGE, estimates=2)


def test_of_a_long_clip_the_transformer_has_a_window_at_once(room: Any) -> None:
    room(None)
    minute = LARGE._replace(frames=481)
    # The autoencoder takes most of it, unless the transformer has all at once.
    settings: Any = {"estimates": 2, "streams": True}
    told = [needed(small(frames=n), minute, **settings).bytes for n in (17, 33, 0)]
    assert told[0] == told[1] < told[2] / 1.5


def test_frames_that_are_held_count_too(room: Any) -> None:
    room(None)
    minute = LARGE._replace(frames=481)
    held, streamed = (
        needed(small(frames=17), minute, estimates=1, streams=each).bytes for each in (False, True)
    )
    # As they are decoded, and joined; or those that the encoder of the file has.
    assert held - streamed == (2 * 481 - 75) * 3 * 800 * 640


def test_the_compiler_counts_until_it_has_compiled(
    room: Any, caplog: Any, monkeypatch: Any
) -> None:
    room(2**34)
    caplog.set_level(logging.INFO, logger="sora_jax")
    for programs in (0, 1):
        counted = SimpleNamespace(_cache_size=lambda programs=programs: programs)
        monkeypatch.setattr("sora_jax.generation.model._step", counted)
        untrained().check(["red"], Size(5, 16, 16), progress=True)
    first, later = re.findall(r"5x16x16 needs about (\d+) MiB", caplog.text)
    assert int(first) - int(later) == 150


def test_what_is_encoded_counts_too(room: Any, monkeypatch: Any) -> None:
    room(None)
    monkeypatch.setattr(memory, "decoder_bytes", lambda *_, **__: 0)
    plain = needed(small(), LARGE, estimates=1).bytes
    assert needed(small(), LARGE, estimates=1, encodes=17).bytes > plain


def test_a_ring_and_what_is_seen_beside_the_clip_count_too(room: Any, monkeypatch: Any) -> None:
    room(None)
    monkeypatch.setattr(memory, "decoder_bytes", lambda *_, **__: 0)
    size = LARGE._replace(frames=16)
    plain, closed, seen = (
        needed(small(), size, estimates=1, **more).bytes
        for more in ({}, {"closed": True}, {"more": 20})
    )
    # Round the ring before it begins: five latents and a first one.
    assert closed - plain == 2 * 3 * 21 * 800 * 640
    assert seen > plain


def test_what_others_have_is_not_free(room: Any, monkeypatch: Any) -> None:
    room(2**40)
    need = needed(small(), LARGE, estimates=1).bytes
    monkeypatch.setattr(memory, "free_bytes", lambda: need - 1)
    with pytest.raises(MemoryError, match=r"1024.0 GiB, of which .* are free"):
        needed(small(), LARGE, estimates=1)


def test_what_is_free_is_told_by_the_machine() -> None:
    free = memory.free_bytes()
    assert free is not None and memory.in_use_bytes() < free < 2 * available_bytes()


def test_the_need_is_told_before_the_first_step(room: Any, monkeypatch: Any, caplog: Any) -> None:
    room(2**30)

    def sampled(*_: Any, **__: Any) -> None:
        raise InterruptedError(caplog.text)

    monkeypatch.setattr(GenerativeModel, "sample", sampled)
    caplog.set_level(logging.INFO, logger="sora_jax")
    with pytest.raises(InterruptedError, match="9x16x24 needs about"):
        untrained().edit(clip(9), "red", progress=True, **FAST)
    room(2**20)
    with pytest.raises(MemoryError, match="this device has 1 MiB"):
        untrained().edit(clip(9), "red", **FAST)


@pytest.mark.parametrize(("limits", "least"), [(("max", "1000"), 1000), (("2000",), 2000)])
def test_what_a_container_may_take_bounds_it(
    limits: tuple[str, ...], least: int, tmp_path: Path, monkeypatch: Any
) -> None:
    files = [tmp_path / str(number) for number in range(2)]
    monkeypatch.setattr(memory, "_LIMITS", files)
    assert available_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file, limit in zip(files, limits, strict=False):
        file.write_text(limit + "\n")
    assert available_bytes() == least
