"""The settings of the package, read live from Django's."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.files.storage import Storage, default_storage, storages
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

ARTIFACT_STORAGE_ALIAS = "user_task_artifacts"


class Defaults:
    """Every setting with its default value."""

    USER_TASKS_ARTIFACT_FILTERS: tuple[Any, ...] = ("user_tasks.filters.ArtifactFilterBackend",)
    """Filter backends, classes or dotted paths, that decide which artifacts a user is shown."""

    USER_TASKS_STATUS_FILTERS: tuple[Any, ...] = ("user_tasks.filters.StatusFilterBackend",)
    """Filter backends, classes or dotted paths, that decide which statuses a user is shown."""

    USER_TASKS_STATUS_SERIALIZER: Any = "user_tasks.serializers.StatusSerializer"
    """Serializer, a class or its dotted path, of statuses in the API and in ``responses.accepted``;
    ``"user_tasks.detailed.DetailedStatusSerializer"`` tells more."""

    USER_TASKS_ARTIFACT_SERIALIZER: Any = "user_tasks.serializers.ArtifactSerializer"
    """Serializer, a class or its dotted path, of artifacts in the API."""

    USER_TASKS_MAX_AGE: timedelta = timedelta(days=30)
    """How long after their creation statuses are kept by ``purge_old_user_tasks``."""

    USER_TASKS_ARTIFACT_STORAGE: str | None = None
    """Dotted path of the storage class for artifact files, where ``STORAGES["user_task_artifacts"]`` is not set;
    without either, Django's default storage."""

    USER_TASKS_ARTIFACT_MAX_AGE: timedelta | None = None
    """How long artifacts keep a file that was stored; None keeps it as long as the status."""

    USER_TASKS_INLINE_TYPES: list[str] = []
    """Content types that browsers show in place rather than save: any of ``application/pdf``, ``image/avif``,
    ``image/gif``, ``image/jpeg``, ``image/png``, ``image/webp`` and ``text/plain``."""

    USER_TASKS_SENDFILE: bool = False
    """Let the web server send files that have a path, by django-sendfile2 and its settings."""

    USER_TASKS_STRICT_PUBLISH: bool = False
    """Raise the ``TypeError`` about a missing or invalid ``user_id`` in the caller, and send nothing. Without it the
    error is logged and the message sent, untracked."""

    USER_TASKS_RECORD_GROUPS: bool = True
    """Record all members of a group in bulk before the first of them is published. Without it each is recorded with
    its own message."""

    USER_TASKS_PUBLISH_ON_COMMIT: bool = False
    """Let plain calls of tasks, and canvases that hold any, behave inside a transaction as ``delay_on_commit()`` does:
    recorded at once, sent after the commit, gone with a rollback."""

    USER_TASKS_TRACK_SECONDS: float = 0.5
    """How often, in seconds, a loop with ``track`` writes its steps, and looks whether its task has been canceled."""

    USER_TASKS_HEARTBEAT_SECONDS: float = 30
    """How often, in seconds, a worker process records that the tasks it executes are alive."""

    USER_TASKS_PENDING_LIMIT: timedelta | None = None
    """How long a task may wait after it was due before ``fail_lost_user_tasks`` gives it up; None waits for ever.
    A task planned in a canvas is due when nothing before it is left."""

    USER_TASKS_LOST_AFTER: timedelta = timedelta(minutes=5)
    """How long a running task may be silent before it counts as lost; a tree with a task that has shown life within
    this time is never purged."""


_CLASS_LISTS = ("USER_TASKS_ARTIFACT_FILTERS", "USER_TASKS_STATUS_FILTERS")
_CLASSES = ("USER_TASKS_ARTIFACT_SERIALIZER", "USER_TASKS_STATUS_SERIALIZER")
_MISSING = object()


class Settings:
    """Looks a setting up at each access: in what was set on this object, in Django's settings, in `Defaults`."""

    def __getattr__(self, name: str) -> Any:
        default = getattr(Defaults, name, _MISSING)
        if default is _MISSING:
            return getattr(django_settings, name)
        value = getattr(django_settings, name, default)
        if name in _CLASSES:
            return _class(value)
        return _classes(value) if name in _CLASS_LISTS else value


settings = Settings()


def get_storage(import_path: str | None = None) -> Storage:
    """Return the storage for artifact files.

    That is the one that ``STORAGES["user_task_artifacts"]`` describes, else an instance of the class at
    `import_path`, else Django's default storage.
    """
    entry = settings.STORAGES.get(ARTIFACT_STORAGE_ALIAS)
    if entry is not None:
        known = django_settings.STORAGES.get(ARTIFACT_STORAGE_ALIAS) == entry
        return storages[ARTIFACT_STORAGE_ALIAS] if known else storages.create_storage(entry)
    return _storage_at(import_path) if import_path else default_storage


def artifact_storage() -> Storage:
    """Return the storage that the settings name at this moment."""
    return get_storage(settings.USER_TASKS_ARTIFACT_STORAGE)


def _classes(values: Any) -> tuple[Any, ...]:
    return tuple(map(_class, values))


def _class(value: Any) -> Any:
    return import_string(value) if isinstance(value, str) else value


@lru_cache(maxsize=8)
def _storage_at(import_path: str) -> Storage:
    storage: Storage = import_string(import_path)()
    return storage


def _forget_storages(**_: Any) -> None:
    _storage_at.cache_clear()


setting_changed.connect(_forget_storages)
