"""A project's site for web servers in processes of their own: ``wsgi`` and ``asgi``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler


class PathlessStorage(Storage):
    """Keeps files in a folder and tells nobody where."""

    def _where(self, name: str) -> Path:
        return Path(settings.MEDIA_ROOT, name)

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        return File(self._where(name).open(mode))

    def _save(self, name: str, content: File[bytes]) -> str:
        self._where(name).parent.mkdir(parents=True, exist_ok=True)
        with self._where(name).open("wb") as file:
            file.writelines(content.chunks())
        return name

    def exists(self, name: str) -> bool:
        return self._where(name).exists()

    def delete(self, name: str) -> None:
        self._where(name).unlink()


def __getattr__(name: str) -> WSGIHandler | ASGIHandler:
    """Return an application, with the package's rules in force; a test that imports this module starts none."""
    import django

    if name not in ("wsgi", "asgi"):
        raise AttributeError(name)
    django.setup()
    from user_tasks.rules import add_rules

    add_rules()
    return WSGIHandler() if name == "wsgi" else ASGIHandler()
