"""The Unicode character database, as Python knows it, in rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

from fontTools.unicodedata import block

PLANE_SIZE = 0x10000
ALL_PLANES = range(17)
HEADER = (
    "code point",
    "character",
    "name",
    "category",
    "bidirectional class",
    "combining class",
    "east asian width",
    "mirrored",
    "decomposition",
    "numeric value",
)


def named_characters(planes: Iterable[int] = ALL_PLANES) -> Iterator[str]:
    """Yield every character of the planes that has a name, by code point."""
    for plane in planes:
        for code_point in range(plane * PLANE_SIZE, (plane + 1) * PLANE_SIZE):
            character = chr(code_point)
            if unicodedata.name(character, None):
                yield character


@cache
def count(plane: int) -> int:
    """Return how many characters of the plane have a name."""
    return sum(1 for _ in named_characters([plane]))


@cache
def planes() -> tuple[int, ...]:
    """Return the planes that hold named characters."""
    return tuple(filter(count, ALL_PLANES))


def by_block(characters: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield the name of each block with its characters."""
    return groupby(characters, block)


def properties(character: str) -> tuple[object, ...]:
    """Return the row of a character, as `HEADER` names its columns."""
    return (
        f"U+{ord(character):04X}",
        character,
        unicodedata.name(character),
        unicodedata.category(character),
        unicodedata.bidirectional(character),
        unicodedata.combining(character),
        unicodedata.east_asian_width(character),
        unicodedata.mirrored(character),
        unicodedata.decomposition(character),
        unicodedata.numeric(character, ""),
    )
