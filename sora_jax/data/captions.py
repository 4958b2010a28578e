"""Captions: one chosen for a clip, and texts as the integers that a text encoder reads."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np

from sora_jax.arrays import Text
from sora_jax.data.datasets import Record


def choose(
    record: Record,
    rng: np.random.Generator,
    *,
    descriptive_share: float = 0.5,
    misspelt_share: float = 0.0,
) -> str:
    """The text of one caption of a record; "" if it has none.

    Where it has both kinds, a descriptive one with probability `descriptive_share`; among those of
    a kind all are equally likely. A text of `misspelt_share` of them gets typing errors.
    """
    descriptive = rng.random() < descriptive_share
    wanted = "descriptive" if descriptive else "short"
    texts = [caption.text for caption in record.captions if caption.kind == wanted]
    texts = texts or [caption.text for caption in record.captions]
    text = texts[rng.integers(len(texts))] if texts else ""
    return misspelt(text, rng) if misspelt_share and rng.random() < misspelt_share else text


def misspelt(text: str, rng: np.random.Generator) -> str:
    """The text with one typing error in twenty letters, and at least one.

    A letter is left out, struck twice, replaced, or exchanged with the next; or its case changes.
    """
    for _ in range(max(1, len(text) // 20) if text else 0):
        at = int(rng.integers(len(text)))
        letter, following = text[at], text[at + 1 : at + 2]
        errors = ("", 2 * letter, chr(int(rng.integers(97, 123))), following + letter)
        kind = int(rng.integers(len(errors) + 1))
        if kind == len(errors):
            text = text[:at] + letter.swapcase() + text[at + 1 :]
        else:
            text = text[:at] + errors[kind] + text[at + 1 + (kind == 3) :]
    return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
    """UTF-8 bytes (0..255) after a beginning mark (256), padded (257) to `length`."""

    length: int = 256

    vocabulary = 258
    begin = 256
    pad = 257

    def tokens(self, texts: Sequence[str]) -> Text:
        """NumPy int32: tokens [batch, length] and length [batch], at least 1 for the mark.

        A text that does not fit loses its end, after the last whole character that fits.
        """
        tokens = np.full((len(texts), self.length), self.pad, np.int32)
        length = np.ones(len(texts), np.int32)
        tokens[:, 0] = self.begin
        for row, text in enumerate(texts):
            kept = self._kept(text)
            tokens[row, 1 : 1 + len(kept)] = np.frombuffer(kept, np.uint8)
            length[row] += len(kept)
        return Text(tokens=tokens, length=length)

    def truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts do not fit and lose their end."""
        return sum(len(text.encode(errors="replace")) > self.length - 1 for text in texts)

    def _kept(self, text: str) -> bytes:
        fitting = text.encode(errors="replace")[: self.length - 1]
        return fitting.decode(errors="ignore").encode()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Captions that are names of classes, as one integer each; the empty caption is `classes`."""

    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        return len(self.names)

    def tokens(self, texts: Sequence[str]) -> Text:
        """NumPy int32: tokens [batch, 1] in 0..classes (the null label), and length [batch], all 1.

        Without names every text is the null label: unconditional. Raises ValueError on a text that
        is not a name.
        """
        labels = [self._label(text) for text in texts]
        tokens = np.asarray(labels, np.int32).reshape(-1, 1)
        return Text(tokens=tokens, length=np.ones(len(texts), np.int32))

    def truncated(self, texts: Sequence[str]) -> int:
        """0: a label always fits."""
        return 0

    def _label(self, text: str) -> int:
        if not self.names or not text:
            return self.classes
        if text in self.names:
            return self.names.index(text)
        near = difflib.get_close_matches(text, self.names, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{text!r} is not one of the {self.classes} labels; the nearest is {near!r}"
        )
