"""The site that `download` measures: an artifact's file by a link, and the same file by a bare FileResponse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpRequest
from django.urls import include, path

FOLDER = Path(os.environ["BENCHMARK_FOLDER"])

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="only-for-benchmarks",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "benchmark.sqlite3"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "rules", "user_tasks"],
    MEDIA_ROOT=str(FOLDER),
    ROOT_URLCONF=__name__,
    USE_TZ=True,
)


def bare(request: HttpRequest, name: str) -> FileResponse:
    """Send a file as Django does by itself."""
    return FileResponse((FOLDER / name).open("rb"))


class LazyPatterns:
    """The URLs, which need the apps."""

    def __iter__(self) -> Any:
        return iter([path("bare/<path:name>", bare), path("", include("user_tasks.urls"))])


def set_up() -> None:
    """Load the apps."""
    import django

    django.setup()


def __getattr__(name: str) -> Any:
    """Return an application, or the URLs."""
    if name == "urlpatterns":
        return list(LazyPatterns())
    if name not in ("wsgi", "asgi"):
        raise AttributeError(name)
    set_up()
    return WSGIHandler() if name == "wsgi" else ASGIHandler()
