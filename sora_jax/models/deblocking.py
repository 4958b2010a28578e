"""A filter over the joints in time of what was coded in blocks of frames.

Each latent frame is decoded with an error of its own, which jumps where the next begins: what
stands still flickers once a latent frame. As the filters of block codecs do (H.264's, Wiegand et
al. 2003, section IV-A), this one takes small jumps for errors and leaves large ones, which are what
moves. With d the jump of a pixel from the last frame before a block to the block's first frame k =
0, and r the reach,

    y_k = x_k - (1 - (k + 1) / n) d max(0, 1 - d^2 / r^2)^2          of a block of n frames

so that the jump is spread evenly over the block, and the block's end is where it was: nothing is
carried from one block to the next, and all are filtered at once.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Video

Frame = Float[Array, "batch height width 3"]


def deblocked(
    video: Video, before: Frame | None, *, block: int, reach: float
) -> tuple[Float[Array, "batch frames height width 3"], Frame]:
    """Returns filtered frames, and the last of them, which is as it was, for those that follow.

    video   whole blocks of `block` frames; where a clip begins, after one frame that is no block.
    before  the last frame before them; None where the clip begins.
    reach   jumps as large as this, in the units of the pixels, are left as they are.
    """
    video = jnp.asarray(video)
    begun = video[:, : 0 if before is not None else 1]
    first = video[:, 0] if before is None else before
    rest = video[:, begun.shape[1] :]
    blocks = rest.reshape(len(video), -1, block, *video.shape[2:])
    jump = blocks[:, :, 0] - jnp.concatenate([first[:, None], blocks[:, :-1, -1]], axis=1)
    jump *= jnp.square(jnp.maximum(0, 1 - jnp.square(jump / reach)))
    shares = 1 - (jnp.arange(block, dtype=video.dtype) + 1) / block
    blocks -= shares[:, None, None, None] * jump[:, :, None]
    return jnp.concatenate([begun, blocks.reshape(rest.shape)], axis=1), video[:, -1]
