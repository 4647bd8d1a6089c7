"""A storage whose disk is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.files.storage import FileSystemStorage


class FullStorage(FileSystemStorage):
    """Files on a disk that is full."""

    def _save(self, name: str, content: Any) -> str:
        with Path("/dev/full").open("wb") as file:
            file.writelines(content.chunks())
        return name
