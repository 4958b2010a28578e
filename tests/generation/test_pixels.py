"""Clips to latents and back: streamed, tiled, from either end, and round."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sora_jax
from sora_jax.arrays import Size
from sora_jax.data.worlds.orbit import Orbit
from sora_jax.data.worlds.source import Worlds
from sora_jax.generation import pixels
from sora_jax.generation.devices import Devices
from sora_jax.generation.pixels import AT_ONCE, LEAST_TILE, PREROLL
from sora_jax.models.conv import FEATURES
from sora_jax.models.layout import constrained
from sora_jax.parallel.mesh import Mesh
from tests.generation.untrained import clip, same, untrained


def test_a_stream_is_the_whole():
    codec, frames = untrained().codec(), clip(4 * AT_ONCE + 8)
    latent = codec.encode(frames)
    assert latent.shape == (1, 1 + AT_ONCE + 2, 2, 3, 8)
    short = codec.encode(frames[: 4 * AT_ONCE - 3])
    np.testing.assert_allclose(latent[:, : short.shape[1]], short, atol=1e-4)
    whole = codec.decode(latent)[0]
    assert same(whole[: 4 * AT_ONCE - 3], codec.decode(short)[0])
    parts = codec.stream(latent[:, part] for part in (slice(0, 3), slice(3, 4), slice(4, None)))
    assert same(np.concatenate(list(parts), axis=1)[0], whole)
    # However many come, so many go through at once.
    lengths = [part.shape[1] for part in codec.stream([latent[:, :1], latent[:, 1:]])]
    assert lengths == [1, 4 * AT_ONCE, 8]


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_clip_to_go_on_with_ends_with_its_last_frame(frames: int):
    codec, given = untrained().codec(), clip(frames)
    latent, before = codec.encode_ending(given)
    decoded = codec.decode(latent)[0]
    assert len(decoded) == before + frames and before < 4
    plain = codec.encode(np.concatenate([given[:1].repeat(before, 0), given]))
    np.testing.assert_array_equal(latent, plain)


def test_a_clip_by_itself_is_encoded_as_in_training():
    pipeline, given = untrained(), clip(12)
    latent = pipeline.codec().encode_lone(given)
    assert latent.shape[1] == 3
    # In training: the suffix of a longer clip, of which the encoder may not see the rest.
    longer = np.concatenate([clip(1 + 4 * PREROLL, seed=5), given])
    known = np.arange(1 + PREROLL + 3) > PREROLL
    lone = np.asarray(pipeline.vae.lone(jnp.asarray(longer[None]), jnp.asarray(known[None])))
    trained = pipeline.codec().encode(lone[0])[:, 1 + PREROLL :]
    np.testing.assert_allclose(latent, trained, atol=1e-5)


def test_a_ring_begins_anywhere():
    codec = untrained().codec()
    latent = codec.encode_lone(clip(16))
    ring = codec.decode_ring(latent)
    assert len(ring) == 16
    turned = codec.decode_ring(np.roll(latent, 1, axis=1))
    assert same(np.roll(ring, 4, axis=0), turned)


def test_tiles_change_nothing_beyond_the_reach_of_the_decoder():
    side = 8 * (LEAST_TILE + 9)
    frames = clip(5, side, side + 8)
    whole, tiled = untrained().codec(), untrained().codec(LEAST_TILE)
    latent = whole.encode(frames)
    np.testing.assert_allclose(tiled.encode(frames), latent, atol=1e-4)
    assert same(tiled.decode(latent), whole.decode(latent))
    assert same(
        np.concatenate(list(tiled.stream([latent[:, :1], latent[:, 1:]])), axis=1),
        whole.decode(latent),
    )


def test_tiles_of_the_shipped_autoencoder_leave_no_seams_as_their_margins_count_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    pipeline = sora_jax.load()
    source = Worlds(clips=1, worlds=(Orbit(),), sizes=(Size(5, 192, 128),))
    frames = source.open().read(0, 0, 5)
    whole = pipeline.codec()
    latent = whole.encode(frames)
    made = whole.decode(latent)[0].astype(int)
    error = np.abs(made - frames).mean()

    def seams() -> int:
        tiled = pipeline.codec(LEAST_TILE)
        np.testing.assert_allclose(tiled.encode(frames), latent, atol=1e-4)
        return np.abs(tiled.decode(latent)[0] - made).max()

    # Nowhere as much as a grey level, where the autoencoder itself is off by several.
    assert seams() <= 1 < error / 2
    monkeypatch.setattr(pixels, "MARGIN", 0)
    assert seams() >= 3


def test_too_small_tiles_are_refused():
    with pytest.raises(ValueError, match=f"at least {LEAST_TILE}"):
        untrained().codec(4)


def test_devices_share_rows_and_where_there_are_more_of_them_frames():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices (tests/conftest.py asks for virtual ones)")
    devices = Devices(Mesh(data=1, fsdp=2, tensor=4))
    going_on, beginning = Size(AT_ONCE, 2, 3), Size(1, 2, 3)
    assert devices.sharing_pictures(going_on, begins=False) == 8
    assert devices.sharing_pictures(beginning, begins=True) == 2
    alone = untrained().codec()
    together = dataclasses.replace(alone, devices=devices, params=devices.everywhere(alone.params))
    frames = clip(1 + 8 * AT_ONCE)
    latent = alone.encode(frames)
    np.testing.assert_allclose(together.encode(frames), latent, atol=5e-3)
    assert same(together.decode(latent), alone.decode(latent))
    with devices.use_for_pictures(going_on, begins=False):
        cut = jax.jit(lambda x: constrained(x, FEATURES))(jnp.zeros((1, *going_on, 4)))
    assert cut.sharding.shard_shape(cut.shape) == (1, AT_ONCE // 4, 1, 3, 4)
