"""Content types of files: guessed from names, and only such as cannot run in the site's origin."""

from __future__ import annotations

from email.message import Message
from mimetypes import guess_type

BINARY = "application/octet-stream"
TEXT = "text/plain"
JSON = "application/json"
UTF8 = "; charset=utf-8"

INLINE = frozenset(
    {"application/pdf", "image/avif", "image/gif", "image/jpeg", "image/png", "image/webp", TEXT},
)
"""What a browser may show in place, where the project allows that."""

HARMLESS = frozenset(
    {
        *INLINE,
        BINARY,
        JSON,
        "application/gzip",
        "application/msword",
        "application/zip",
        "image/bmp",
        "image/tiff",
        "text/calendar",
        "text/csv",
        "text/tab-separated-values",
    }
)
"""What is told as it is; whatever else a file is, its answer calls it binary."""

HARMLESS_PREFIXES = ("application/vnd.", "audio/", "video/")

LENGTH = 128
"""The longest content type kept."""


def guess(name: object) -> str:
    """Return the content type that the suffix of a name stands for; of what is compressed, that of the compression."""
    found, encoding = guess_type(str(name), strict=False)
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else BINARY
    return (found or BINARY)[:LENGTH]


def essence(content_type: str) -> str:
    """Return the type and subtype, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


def safe(content_type: str) -> str:
    """Return the content type that an answer may have: that of the file, or that of any binary data."""
    kind = essence(content_type)
    if kind in HARMLESS or (kind.startswith(HARMLESS_PREFIXES) and not kind.endswith("xml")):
        return f"{kind}{_charset(content_type)}"
    return BINARY


def _charset(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_content_charset()
    return f"; charset={charset}" if charset and charset.isascii() and charset.replace("-", "").isalnum() else ""
