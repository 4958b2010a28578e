"""Latents after others, before others, between two, and round in a ring."""

from __future__ import annotations

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sora_jax.arrays import HostOrDevice, Size
from sora_jax.diffusion.samplers import fold
from sora_jax.generation.canvas import RING_CONTEXT, Canvas
from sora_jax.generation.model import GenerativeModel
from sora_jax.generation.rollout import (
    LEAST,
    Latents,
    in_windows,
    loosened,
    plan_hops,
    plan_windows,
    roll,
    too_short,
)
from sora_jax.generation.settings import GUIDANCE, Sampling, key_of

log = logging.getLogger("sora_jax")

EDITED = 2**30
"""What is folded into the key of a seed for the noise of a canvas."""

BETWEEN = dataclasses.replace(GUIDANCE, given=1.5)
"""Guidance of what lies between given frames, which it must follow closely on both sides."""


class Gaps(GenerativeModel):
    """A model that fills what is missing around latents of one clip.

    What stands for a single frame is the first latent of a clip alone. Latents from the middle of
    one lie on a canvas behind such a first latent, which is made and thrown away.
    """

    def sampled(
        self,
        canvas: Canvas,
        prompt: str,
        how: Sampling,
        *,
        noise: HostOrDevice | None = None,
        closed: bool = False,
    ) -> Latents:
        """Returns the latents of a canvas of one row, from the seed of the settings; of one that is
        longer than the window, in several (see `rollout.in_windows`).

        noise   what to begin with; by default that of the seed.
        closed  the latents close to a ring, which the window must hold.
        """
        # Not that of `generate`: what is edited may have been made of it, and would be again.
        keys, window = fold(key_of(how.seed)[None], EDITED), self.window
        if window is None or canvas.reference.shape[1] <= window:
            with self.ticking(1, how) as tick:
                noise = None if noise is None else jnp.asarray(noise)
                made = self.sample(
                    canvas, [prompt], how, keys=keys, noise=noise, closed=closed, tick=tick
                )
            return np.asarray(made)
        asked = np.any(np.asarray(canvas.start) > 0, axis=(0, 2, 3))
        asked = np.broadcast_to(asked, canvas.reference.shape[1]).tolist()
        windows = plan_windows(asked, window=window)
        with self.ticking(len(windows), how) as tick:
            return in_windows(
                self,
                canvas,
                [prompt],
                how,
                windows,
                window=window,
                keys=keys,
                noise=noise,
                tick=tick,
            )

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
                keys=key_of(how.seed)[None],
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
            raise too_short(window)
        fewest = min(LEAST, max(1, window - 2))
        hops = 1 if count <= window - fewest else -(-(count - 1) // (window - 1 - fewest))
        key, left, after = key_of(how.seed), count, latent
        with self.ticking(hops, how) as tick:
            for number in range(count):
                if not left:
                    break
                # As much of what follows as there is room for.
                new = min(left, window - min(fewest, after.shape[1]))
                shown = after[:, : window - new]
                canvas = blank_like(latent, new + shown.shape[1]).put(shown, at=new)
                keys = jax.random.fold_in(key, number)[None]
                # As in `roll`.
                settings = loosened(how) if number else how
                made = np.asarray(self.sample(canvas, [prompt], settings, keys=keys, tick=tick))
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
        over: Latents | None = None,
        level: float | Float[np.ndarray, "_ 1 1"] = 1.0,
    ) -> Latents:
        """Returns `count` latents, at most `most_between`, that lead from the end of some to the
        beginning of others.

        begins       says that the first of `before` is the first of a clip.
        over, level  so many latents that are edited to be what lies between, and the start level of
                     all or of each.
        """
        if over is not None and not np.any(level):
            return over  # nothing is left to make
        window = self.window or 1 + before.shape[1] + count + after.shape[1]
        room = window - count - 1
        tail = before[:, -(room - min(room // 2, after.shape[1])) :]
        head = after[:, : room - tail.shape[1]]
        at = 0 if begins and tail.shape[1] == before.shape[1] else 1
        gap = at + tail.shape[1]
        canvas = blank_like(before, gap + count + head.shape[1])
        canvas = canvas.put(tail, at=at).put(head, at=gap + count)
        if over is not None:
            canvas = canvas.put(over, at=gap, level=level)
        return self.sampled(canvas, prompt, how)[:, gap : gap + count]

    def most_between(self, given: int) -> int | None:
        """The most latents that fill a gap between `given` others: the model must see `LEAST` of
        these on either side, or all. None if its window is not known."""
        return None if self.window is None else self.window - 1 - min(2 * LEAST, given)

    @property
    def most_around(self) -> int | None:
        """The most latents of a ring, of which it must see `RING_CONTEXT` twice."""
        return None if self.window is None else self.window - 1 - RING_CONTEXT

    def ring(self, prompt: str, size: Size, how: Sampling) -> Latents:
        """Returns latents that close to a ring, at most `most_around`, for `size` pixels."""
        grid = self.vae.latent_size(size)
        grid = grid._replace(frames=size.frames // self.vae.factor.frames)
        canvas = Canvas.blank(grid, self.vae.latent_channels)
        return self.sampled(canvas, prompt, how, closed=True)

    def whole(self, frames: int, what: str, *, most: int | None, lost: int = 0) -> int:
        """Returns the frames of whole latents that hold those asked for, and `lost` ones besides
        where `most` latents hold these too. A number that was not asked for is logged.

        Raises ValueError for less than one latent, and for more than `most`.
        """
        step = self.vae.factor.frames
        if frames < step:
            raise ValueError(f"frames={frames}: give at least the {step} of one latent")
        needed, count = -(-frames // step), -(-(frames + lost) // step)
        if most is not None and needed > most:
            remedy = f"give at most {step * most}" if most > 0 else "its clips were too short"
            raise ValueError(
                f"{what}: {frames} frames are more than this model was trained to see at once; "
                f"{remedy}"
            )
        if most is not None and count > most:
            count = most
            log.warning(
                "%s: made %d frames, the most that this model can, for %d and %d made anew",
                what,
                step * count,
                frames,
                lost,
            )
        elif step * count != frames + lost:
            log.warning(
                "%s: made %d frames for %d, as a latent stands for %d",
                what,
                step * count,
                frames + lost,
                step,
            )
        return step * count


def blank_like(latent: Latents, frames: int) -> Canvas:
    """Returns a canvas of so many frames on which nothing is given."""
    return Canvas.blank(Size(frames, *latent.shape[2:4]), latent.shape[-1])
