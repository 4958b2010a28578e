"""What a model can be asked for, and which prompts go beyond."""

from __future__ import annotations

import dataclasses
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

from sora_jax.arrays import Size

_WORD = re.compile(r"[^\W\d_]+")

_SHORT = 3
"""Latin words of fewer letters say nothing about what a prompt is about."""

_LONG, _TWICE = 5, 8
"""Letters from which on a word may have any typing error, and from which on two of them."""

_LETTERS = string.ascii_lowercase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain:
    """What a model was trained on.

    about   for people: what it can be asked for.
    words   that its captions were made of, in small letters; empty if unknown.
    sizes   in pixels, of its buckets; empty if unknown.
    """

    about: str = ""
    words: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()

    @property
    def frames(self) -> int:
        """Of its longest clips; 0 if unknown."""
        return max((size.frames for size in self.sizes), default=0)

    def outgrown(self, size: Size) -> Size | None:
        """The largest pictures of clips as long as one of `size`, if that has twice their pixels.

        None if it has not, or sizes are unknown. Clips longer than all others are as those.
        """
        if not self.sizes:
            return None
        frames = min(size.frames, self.frames)
        known = [each for each in self.sizes if each.frames >= frames]
        largest = max(known, key=lambda each: each.height * each.width)
        twice = size.height * size.width >= 2 * largest.height * largest.width
        return largest if twice else None

    def strange(self, prompt: str) -> list[str]:
        """The words of a prompt that no caption held; none where `words` is empty.

        Latin words of one or two letters are left out. So are known words with typing errors, as
        long as known ones without are as many: *cat* may stand for *can* in a long caption, but
        not where it is all that is said.
        """
        if not self.words:
            return []
        known = set(self.words)
        asked = [word for word in dict.fromkeys(words_of(prompt)) if _says(word)]
        unknown = [word for word in asked if word not in known]
        slips = [word for word in unknown if _misspelt(word, known)]
        if len(slips) > len(asked) - len(unknown):
            return unknown
        return [word for word in unknown if word not in slips]


def _says(word: str) -> bool:
    """Whether a word tells anything: one of another script may do so in one character."""
    return len(word) >= _SHORT or not all("LATIN" in unicodedata.name(each, "") for each in word)


def _misspelt(word: str, known: set[str]) -> bool:
    """Whether typing errors may have made a word of a known one, or of two without their space."""
    sources = {*_sources(word)}
    if known & sources:
        return True
    if len(word) < _LONG:
        return False
    joined = ((word[:at], word[at + gap :]) for at in range(1, len(word)) for gap in (0, 1))
    if any(first in known and second in known for first, second in joined):
        return True
    return len(word) >= _TWICE and any(known & {*_sources(each)} for each in sources)


def _sources(word: str) -> Iterator[str]:
    """What one typing error makes the word of: see `data.captions.misspelt`.

    A letter is missing, wrong, exchanged with the next, or one too many. So many words are near to
    a short one that in such a wrong letter is not the first, and one too many is struck twice.
    """
    long = len(word) >= _LONG
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        for letter in _LETTERS:
            yield before + letter + after
            if at or long:
                yield before + letter + after[1:]
        if long or before[-1:] == after[:1]:
            yield before + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """All words of some texts, sorted."""
    return tuple(sorted({word for text in texts for word in words_of(text)}))
