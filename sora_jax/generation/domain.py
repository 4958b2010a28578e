"""What a model can be asked for, and which prompts go beyond."""

from __future__ import annotations

import dataclasses
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

from sora_jax.arrays import Size

_WORD = re.compile(r"[^\W\d_]+")

_SHORT = 3
"""Latin words of fewer letters say nothing about what a prompt is about."""

_LONG, _TWICE = 5, 8
"""Letters from which on a word may have any typing error, and from which on two of them."""

_TO_ONE = 4
"""Known words for each that may be one of them with an error."""


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
        largest = max(self._as_long_as(size), key=_pixels, default=None)
        return largest if largest and _pixels(size) >= 2 * _pixels(largest) else None

    def undercut(self, size: Size) -> Size | None:
        """The smallest pictures of such clips, if one of `size` has no more than half their pixels;
        None as above."""
        smallest = min(self._as_long_as(size), key=_pixels, default=None)
        return smallest if smallest and 2 * _pixels(size) <= _pixels(smallest) else None

    def _as_long_as(self, size: Size) -> list[Size]:
        frames = min(size.frames, self.frames)
        return [each for each in self.sizes if each.frames >= frames]

    def strange(self, prompt: str) -> list[str]:
        """The words of a prompt that no caption held; none where `words` is empty.

        Latin words of one or two letters are left out; so are known words with typing errors. Many
        words are near to one that is known: *cat* to *can*, *flower* to *lower*. Where a word has
        few letters, or does not begin as the known one does, letters that are exchanged or struck
        twice tell of an error for certain; others do as long as known words without errors are four
        times as many.
        """
        if not self.words:
            return []
        known = set(self.words)
        asked = [word for word in dict.fromkeys(words_of(prompt)) if _says(word)]
        unknown = {word: _slip(word, known) for word in asked if word not in known}
        doubtful = [word for word, slip in unknown.items() if slip == "doubtful"]
        believed = _TO_ONE * len(doubtful) <= len(asked) - len(unknown)
        return [
            word
            for word, slip in unknown.items()
            if slip is None or (slip == "doubtful" and not believed)
        ]


def _pixels(size: Size) -> int:
    return size.height * size.width


def _says(word: str) -> bool:
    """Whether a word tells anything: one of another script may do so in one character."""
    return len(word) >= _SHORT or not all("LATIN" in unicodedata.name(each, "") for each in word)


def _slip(word: str, known: set[str]) -> Literal["sure", "doubtful"] | None:
    """Whether typing errors may have made a word of a known one, or of two without their space.

    The errors are those of `data.captions.misspelt`: a letter is missing, wrong, exchanged with the
    next, or one too many.
    """
    if known & {*_mistyped(word)}:
        return "sure"
    if len(word) < _LONG:
        # So many words are near to a short one that its first letter counts as right.
        near = known & {*_with_one_more(word), *_with_another(word)}
        return "doubtful" if any(each[0] == word[0] for each in near) else None
    sources = {*_mistyped(word), *_with_one_more(word), *_with_another(word)}
    if found := known & sources:
        alike = len(word) > _LONG and any(each[0] == word[0] for each in found)
        return "sure" if alike else "doubtful"
    joined = ((word[:at], word[at + gap :]) for at in range(1, len(word)) for gap in (0, 1))
    if any(first in known and second in known for first, second in joined):
        return "sure"
    if len(word) < _TWICE:
        return None
    twice = (
        {*_mistyped(each), *_with_one_more(each), *_with_another(each)} & known for each in sources
    )
    return "sure" if any(twice) else None


def _mistyped(word: str) -> Iterator[str]:
    """What a word was, of which two letters are exchanged or one is struck twice."""
    for at in range(len(word)):
        before, after = word[:at], word[at:]
        if before[-1:] == after[:1]:
            yield before + after[1:]
        yield before + after[1:2] + after[:1] + after[2:]


def _with_one_more(word: str) -> Iterator[str]:
    """What a word was, of which a letter is missing."""
    for at in range(len(word) + 1):
        for letter in string.ascii_lowercase:
            yield word[:at] + letter + word[at:]


def _with_another(word: str) -> Iterator[str]:
    """What a word was, of which a letter is wrong or too many."""
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
        for letter in string.ascii_lowercase:
            yield word[:at] + letter + word[at + 1 :]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """All words of some texts, sorted."""
    return tuple(sorted({word for text in texts for word in words_of(text)}))
