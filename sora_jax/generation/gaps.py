"""Latents after others, before others, between two, and round in a ring."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float

from sora_jax.arrays import Size
from sora_jax.generation.canvas import CONTEXT, Canvas
from sora_jax.generation.model import GenerativeModel, Sampling
from sora_jax.generation.rollout import plan_hops, roll

LEAST = 2
"""Latents on either side of a gap: with one alone nobody could tell how things move."""

Latents = Float[np.ndarray, "1 _ height width channels"]


class Gaps(GenerativeModel):
    """A model that fills what is missing around latents of one clip.

    What stands for a single frame is the first latent of a clip alone. Latents from the middle of
    one lie on a canvas behind such a first latent, which is made and thrown away.
    """

    def sampled(
        self, canvas: Canvas, prompt: str, how: Sampling, *, closed: bool = False
    ) -> Latents:
        """Returns the latents of a canvas of one row, from the seed of the settings."""
        keys = jax.random.key(how.seed)[None]
        with self.ticking(1, how) as tick:
            made = self.sample(canvas, [prompt], how, keys=keys, closed=closed, tick=tick)
        return np.asarray(made)

    def followed(self, latent: Latents, prompt: str, frames: int, how: Sampling) -> Latents:
        """Returns the latents of a clip and as many more as hold `frames` frames."""
        count = -(-frames // self.vae.factor.frames)
        hops = plan_hops(latent.shape[1], count, window=self.window)
        with self.ticking(len(hops), how) as tick:
            new = roll(
                self,
                [prompt],
                how,
                hops,
                size=latent.shape[2:4],
                keys=jax.random.key(how.seed)[None],
                past=latent,
                tick=tick,
            )
            return np.concatenate([latent, *new], axis=1)

    def preceded(
        self, latent: Latents, prompt: str, frames: int, how: Sampling
    ) -> tuple[Latents, int]:
        """Returns latents from the middle of a clip after as many as hold `frames` frames, and how
        many frames more than that these hold: at the beginning, as the first latent holds one."""
        begun = self.vae.latent_size(Size(frames, 1, 1))
        count, window = begun.frames, self.window or begun.frames + latent.shape[1]
        if window < min(3, count + latent.shape[1]):
            raise ValueError(
                f"this model was trained on clips of {window} latent frames, too few to go on from"
            )
        fewest = min(LEAST, max(1, window - 2))
        hops = 1 if count <= window - fewest else -(-(count - 1) // (window - 1 - fewest))
        key, left, after = jax.random.key(how.seed), count, latent
        with self.ticking(hops, how) as tick:
            for number in range(count):
                if not left:
                    break
                # As much of what follows as there is room for.
                new = min(left, window - min(fewest, after.shape[1]))
                shown = after[:, : window - new]
                canvas = blank_like(latent, new + shown.shape[1]).put(shown, at=new)
                keys = jax.random.fold_in(key, number)[None]
                made = np.asarray(self.sample(canvas, [prompt], how, keys=keys, tick=tick))
                kept = made[:, int(new < left) : new]
                after, left = np.concatenate([kept, after], axis=1), left - kept.shape[1]
        return after, self.vae.pixel_size(begun).frames - frames

    def bridge(
        self,
        before: Latents,
        after: Latents,
        prompt: str,
        count: int,
        how: Sampling,
        *,
        begins: bool = False,
    ) -> Latents:
        """Returns `count` latents that lead from the end of some to the beginning of others.

        `begins` says that the first of `before` is the first of a clip. Raises ValueError for more
        than the model was trained to see with two latents on either side.
        """
        window = self.window or 1 + before.shape[1] + count + after.shape[1]
        room = window - count - 1
        if room < min(2 * LEAST, before.shape[1] + after.shape[1]):
            self._too_many(count, window - 1 - 2 * LEAST, "between two clips")
        tail = before[:, -(room - min(room // 2, after.shape[1])) :]
        head = after[:, : room - tail.shape[1]]
        at = 0 if begins and tail.shape[1] == before.shape[1] else 1
        gap = at + tail.shape[1]
        canvas = blank_like(before, gap + count + head.shape[1])
        canvas = canvas.put(tail, at=at).put(head, at=gap + count)
        return self.sampled(canvas, prompt, how)[:, gap : gap + count]

    def ring(self, prompt: str, size: Size, how: Sampling) -> Latents:
        """Returns latents that close to a ring, for `size` pixels.

        Raises ValueError for more than the model was trained to see, with `canvas.CONTEXT` of them
        repeated.
        """
        count = size.frames // self.vae.factor.frames
        if self.window and 1 + CONTEXT + count > self.window:
            self._too_many(count, self.window - 1 - CONTEXT, "in a loop")
        grid = self.vae.latent_size(size)._replace(frames=count)
        canvas = Canvas.blank(grid, self.vae.latent_channels)
        return self.sampled(canvas, prompt, how, closed=True)

    def _too_many(self, count: int, most: int, where: str) -> None:
        step = self.vae.factor.frames
        raise ValueError(
            f"{count * step} frames {where} are more than this model was trained to see at once; "
            f"give at most {step * max(0, most)}"
        )


def blank_like(latent: Latents, frames: int) -> Canvas:
    """Returns a canvas of so many frames on which nothing is given."""
    return Canvas.blank(Size(frames, *latent.shape[2:4]), latent.shape[-1])
