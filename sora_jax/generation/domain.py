"""What a model can be asked for, and which prompts go beyond."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable

_WORD = re.compile(r"[^\W\d_]+")

_SHORT = 3
"""Words of fewer letters say nothing about what a prompt is about."""

_ALIKE = 0.75
"""Words this much like one another (difflib's ratio) are the same but for a typing error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain:
    """What a model was trained on.

    about   for people: what it can be asked for.
    words   that its captions were made of, in small letters; empty if unknown.
    frames  of its longest clips; 0 if unknown.
    """

    about: str = ""
    words: tuple[str, ...] = ()
    frames: int = 0

    def strange(self, prompt: str) -> list[str]:
        """The words of a prompt that no caption held, nor one like it; none where `words` is empty.

        Words of one or two letters are left out.
        """
        if not self.words:
            return []
        asked = [word for word in dict.fromkeys(words_of(prompt)) if len(word) >= _SHORT]
        known = set(self.words)
        return [
            word
            for word in asked
            if word not in known
            and not difflib.get_close_matches(word, self.words, n=1, cutoff=_ALIKE)
        ]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, in order."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """All words of some texts, sorted."""
    return tuple(sorted({word for text in texts for word in words_of(text)}))
