"""Text from anywhere, made fit for the database and for the user."""

from __future__ import annotations

import json
from typing import Any

from django.utils.functional import Promise

ERROR_BYTES = 64 * 1024
"""The longest error text kept, in bytes of UTF-8."""

ELLIPSIS = "…"


def clean(value: object) -> str:
    """Return the text without what databases refuse: NUL characters, and surrogates that stand alone."""
    return str(value).replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def shorten(value: object, length: int) -> str:
    """Return the clean text, cut to `length` characters, the last of them an ellipsis, where it is longer."""
    text = clean(value)
    return text if len(text) <= length else text[: length - 1] + ELLIPSIS


def error_text(value: Any) -> str:
    """Return what a user reads as an error, from a string, an exception or JSON-like data.

    Exceptions and lazy strings are taken as ``str()``, all else as JSON where that can hold it. The text is capped
    at `ERROR_BYTES`.
    """
    if isinstance(value, BaseException):
        text = exception_text(value)
    elif isinstance(value, str | Promise):
        text = _as_string(value)
    else:
        text = _as_json(value)
    return _capped(clean(text))


def exception_text(exception: BaseException) -> str:
    """Return ``str(exception)``, or the name of its class where that is empty or fails."""
    return _as_string(exception) or type(exception).__name__


def _as_string(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a project's `__str__` may raise anything
        return type(value).__name__


def _as_json(value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return _as_string(value)


def _capped(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= ERROR_BYTES:
        return text
    room = ERROR_BYTES - len(ELLIPSIS.encode())
    return encoded[:room].decode("utf-8", "ignore") + ELLIPSIS
