"""Promises of worlds that are kept as a set: nothing is lost on the way there and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.tfds import TFDS, OpenedTFDS
from sora_jax.data.worlds.builder import SoraWorlds, configuration
from sora_jax.data.worlds.source import Worlds
from sora_jax.data.worlds.sprites import Sprites


def opened(source: Worlds, folder: Path) -> OpenedTFDS:
    name = f"sora_worlds/{configuration(source)}"
    return TFDS(name=name, data_dir=str(folder), fps=source.fps).open()


def test_a_set_gives_back_the_clips_and_captions_of_its_worlds(tmp_path: Path) -> None:
    source = Worlds(clips=6, sizes=(Size(5, 48, 64), Size(1, 48, 48)))
    SoraWorlds(source=source, data_dir=str(tmp_path)).download_and_prepare()
    kept = opened(source, tmp_path)
    drawn = source.open()
    assert not kept.broken and len(kept.records) == 6
    places = {record.captions: index for index, record in enumerate(drawn.records)}
    for index, record in enumerate(kept.records):
        place = places[record.captions]
        np.testing.assert_array_equal(kept.read(index, 0, 9), drawn.read(place, 0, 9))


def test_another_mixture_in_the_same_folder_is_another_set(tmp_path: Path) -> None:
    first = Worlds(clips=2, sizes=(Size(1, 32, 32),))
    others = (
        dataclasses.replace(first, seed=1),
        dataclasses.replace(first, worlds=(Sprites(most=1),)),
    )
    assert len({configuration(each) for each in (first, *others, Worlds(clips=2))}) == 4
    for source in (first, *others):
        builder = SoraWorlds(source=source, data_dir=str(tmp_path))
        builder.download_and_prepare()
        captions = {record.captions for record in opened(source, tmp_path).records}
        assert captions == {record.captions for record in source.open().records}
        kept: Any = builder.info.metadata
        assert kept["seed"] == source.seed and kept["clips"] == 2
