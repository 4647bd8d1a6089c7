"""The header ``Range`` of HTTP, for one part of a file (RFC 9110, 14)."""

from __future__ import annotations

import re

ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The file has none of the bytes that a client asks for."""


def requested(header: str, length: int) -> range | None:
    """Return the positions of the bytes asked for, or None for the whole of a file of this length.

    That is also for what is malformed, or asks for several parts, as a server may answer. Raises
    `UnsatisfiableRangeError`.
    """
    match = ONE_RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if int(last) and not length:
            return None
        found = range(max(length - int(last), 0), length)
    elif last and int(last) < int(first):
        return None
    else:
        found = range(int(first), min(int(last) + 1, length) if last else length)
    if not found:
        raise UnsatisfiableRangeError(header)
    return found
