"""Tests; how they check the types and shapes of what functions take and give."""

from __future__ import annotations

from typing import Any

from beartype import beartype


def outer(function: Any) -> Any:
    """`beartype`, but for what a function defines within itself.

    That would be prepared anew at each call of the outer one, which takes a tenth of all tests.
    """
    return function if "<locals>" in function.__qualname__ else beartype(function)
