"""Stored files that no artifact names: left by storages that failed, and by transactions that were rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from posixpath import join

from django.core.files.storage import Storage
from django.db.models import Min
from django.utils import timezone

from . import outages, stored_files
from .conf import artifact_storage
from .file_names import FOLDER
from .models import UserTaskStatus

ANY_AGE = timedelta(0)


def find(older_than: timedelta = ANY_AGE) -> Iterator[tuple[str, int | None]]:
    """Yield the names of the orphans, each with its size in bytes, or None where the storage cannot tell.

    With an age, what is younger is left out, and what the storage tells no time of. Raises `NotImplementedError` where
    the storage cannot list its files.
    """
    storage = artifact_storage()
    limit = timezone.now() - older_than
    for name in _unnamed(storage):
        if not older_than or _is_older(storage, name, limit):
            yield name, stored_files.size_of(storage, name)


def remove(older_than: timedelta = ANY_AGE) -> Iterator[tuple[str, int | None]]:
    """Remove the orphans, and yield each that has gone.

    A file that is younger than a task which runs stays, since that may be about to name it. Of other transactions
    that may do so nothing is known: only an age that is longer than theirs leaves them their files.
    """
    storage = artifact_storage()
    limit = min(_oldest_start(), timezone.now() - older_than)
    found = [name for name in _unnamed(storage) if _is_older(storage, name, limit)]
    for name in found:
        size = stored_files.size_of(storage, name)
        # To list a storage takes its time, in which a row may have come to name the file.
        is_orphan = any(stored_files.unnamed([name], outages.home()))
        if is_orphan and stored_files.discard(storage, name):
            yield name, size


def _unnamed(storage: Storage) -> Iterator[str]:
    batch: list[str] = []
    for name in _stored(storage, FOLDER.rstrip("/")):
        batch.append(name)
        if len(batch) == stored_files.BATCH:
            yield from stored_files.unnamed(batch, outages.home())
            batch = []
    yield from stored_files.unnamed(batch, outages.home())


def _stored(storage: Storage, folder: str) -> Iterator[str]:
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (join(folder, file) for file in files if file)
    for inner in folders:
        yield from _stored(storage, join(folder, inner))


def _oldest_start() -> datetime:
    running = UserTaskStatus.objects.at_home().unfinished().filter(started__isnull=False)
    return running.aggregate(start=Min("started"))["start"] or timezone.now()


def _is_older(storage: Storage, name: str, moment: datetime) -> bool:
    try:
        modified = storage.get_modified_time(name)
    except Exception:  # noqa: BLE001 - storages raise errors of their own, and may not tell times at all
        return False
    if timezone.is_aware(modified) != timezone.is_aware(moment):
        modified = timezone.make_aware(modified) if timezone.is_aware(moment) else timezone.make_naive(modified)
    return modified <= moment
