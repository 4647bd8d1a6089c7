"""Names of files: as users see them, and as storages keep them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from django.core.files.storage import FileSystemStorage, Storage
from django.utils.crypto import get_random_string

FOLDER = "user_tasks/"
"""Where all files are that this package stores, and nothing else."""

NAME_BYTES = 180
"""The longest name of a stored file, in bytes of UTF-8: file systems take 255, and storages may append to it."""

SUFFIX_LENGTH = 16
"""Characters up to which a suffix outlives the shortening of its name."""

RANDOM_LENGTH = 7
"""Characters that are added to a name, as many as Django adds."""

NAMELESS = "output"

DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of text, by which ``gpj.exe`` may look like ``exe.jpg``."""


def base_name(name: object) -> str:
    """Return the last part of a path, without what could mislead its reader or end a line."""
    last = re.split(r"[/\\]", str(name))[-1]
    seen = "".join(character for character in last if unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"))
    seen = DIRECTIONS.sub("", seen).strip()
    return seen if seen.strip(".") else NAMELESS


def of_title(title: str) -> str:
    """Return the name of a file that is called like a text, which has no folders."""
    return base_name(re.sub(r"[/\\]", "-", title))


def shortened(name: str, length: int, *, in_bytes: bool = False) -> str:
    """Return the name, cut before its suffix where it is longer than `length` characters, or bytes of UTF-8."""
    if _measure(name, in_bytes) <= length:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix) <= SUFFIX_LENGTH else ""
    stem = name.removesuffix(suffix)
    room = length - _measure(suffix, in_bytes)
    cut = stem.encode()[:room].decode(errors="ignore") if in_bytes else stem[:room]
    return f"{cut}{suffix}"


def stored_name(storage: Storage, path: str, length: int) -> str:
    """Return a path for a storage to start from, no longer than `length` characters where it must not be cut.

    Where the storage decides by itself which names are free, as those of object stores do, it may overwrite what has
    the same name: there a random part keeps one user's file from becoming another's. Such storages may also cut what is
    too long before its suffix, where that part is.
    """
    folders, separator, last = path.rpartition("/")
    last = shortened(_with_one_suffix(last), NAME_BYTES, in_bytes=True)
    if not _keeps_names_apart(storage):
        name = PurePosixPath(shortened(last, length - len(folders + separator) - RANDOM_LENGTH - 1))
        last = f"{name.stem}_{get_random_string(RANDOM_LENGTH)}{name.suffix}"
    return f"{folders}{separator}{last}"


def _keeps_names_apart(storage: Storage) -> bool:
    """Tell whether the storage looks for a free name in the way of Django."""
    if getattr(storage, "_allow_overwrite", False):
        return False
    methods = ("get_available_name", "is_name_available", "get_alternative_name")
    return all(
        getattr(getattr(storage, name), "__func__", None) in (getattr(Storage, name), getattr(FileSystemStorage, name))
        for name in methods
    )


def _with_one_suffix(name: str) -> str:
    """Return the name with its last suffix alone, where it has more of them than Django can keep."""
    path = PurePosixPath(name)
    if len("".join(path.suffixes)) <= 2 * SUFFIX_LENGTH:
        return name
    suffix = path.suffix if len(path.suffix) <= SUFFIX_LENGTH else ""
    return name.removesuffix(suffix).replace(".", "_") + suffix


def _measure(text: str, in_bytes: bool) -> int:
    return len(text.encode()) if in_bytes else len(text)
