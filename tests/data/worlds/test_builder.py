"""Promises of worlds that are kept as a set: nothing is lost on the way there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.tfds import TFDS
from sora_jax.data.worlds.builder import SoraWorlds
from sora_jax.data.worlds.source import Worlds


def test_a_set_gives_back_the_clips_and_captions_of_its_worlds(tmp_path: Path) -> None:
    source = Worlds(clips=6, sizes=(Size(5, 48, 64), Size(1, 48, 48)))
    SoraWorlds(source=source, data_dir=str(tmp_path)).download_and_prepare()
    kept = TFDS(name="sora_worlds", data_dir=str(tmp_path), fps=source.fps).open()
    drawn = source.open()
    assert not kept.broken and len(kept.records) == 6
    places = {record.captions: index for index, record in enumerate(drawn.records)}
    for index, record in enumerate(kept.records):
        place = places[record.captions]
        np.testing.assert_array_equal(kept.read(index, 0, 9), drawn.read(place, 0, 9))
