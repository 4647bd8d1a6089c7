"""Stored files of artifacts: each goes after the commit that leaves no row to name it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.files.storage import Storage
from django.db import transaction
from django.db.models import Q
from django.db.models.deletion import Collector
from django.db.models.signals import pre_delete

from .conf import artifact_storage

if TYPE_CHECKING:
    from .models import UserTaskArtifact
    from .querysets import UserTaskArtifactQuerySet

logger = logging.getLogger(__name__)

BATCH = 500
"""Names that are looked up in one query."""


@dataclass
class Removed:
    """How many files have been removed, and their bytes."""

    files: int = 0
    size: int = 0


_counting: ContextVar[Removed | None] = ContextVar("user_tasks_removed_files", default=None)


@contextmanager
def counted(removed: Removed) -> Iterator[None]:
    """Count the files that this thread gives up in this block, each once it has gone: after the commit."""
    token = _counting.set(removed)
    try:
        yield
    finally:
        _counting.reset(token)


def release(artifacts: UserTaskArtifactQuerySet) -> None:
    """Remove the files of these artifacts after the commit of the transaction that takes their names away."""
    release_named(artifacts.sizes_by_file(), artifacts.db)


def release_named(sizes: Mapping[str, int | None], using: str) -> None:
    """Remove files after the commit, unless a row names them even then; their sizes are in bytes, or None."""
    removed = _counting.get()

    def remove() -> None:
        remove_unnamed(sizes, using, removed)

    if sizes:
        transaction.on_commit(remove, using=using, robust=True)


def remove_unnamed(sizes: Mapping[str, int | None], using: str, removed: Removed | None = None) -> None:
    """Remove those of the files that no row names; one that cannot be removed is logged, and is an orphan then."""
    storage = artifact_storage()
    removed = removed or Removed()
    for name in unnamed(list(sizes), using):
        size = sizes[name]
        if size is None:
            size = size_of(storage, name)
        if discard(storage, name):
            removed.files += 1
            removed.size += size or 0


def unnamed(names: list[str], using: str) -> Iterator[str]:
    """Yield those of the names that no row has."""
    artifacts = _artifacts(using)
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        named = artifacts.names_among(batch)
        yield from (name for name in batch if name not in named)


def discard(storage: Storage, name: str) -> bool:
    """Remove a file at once; tell whether that was possible, and log it where it was not."""
    try:
        storage.delete(name)
    except Exception:
        logger.exception("The file %r cannot be removed. purge_user_tasks --orphans --delete tries it again.", name)
        return False
    return True


def go_unheard(using: str) -> bool:
    """Tell whether artifacts are deleted by queries alone, with nobody who listens to each of them."""
    artifacts: Any = _artifact_model()
    return Collector(using=using).can_fast_delete(artifacts)


def follow_users() -> None:
    """Be told of each user, of whatever kind, that is about to be deleted."""
    user = get_user_model()
    for model in apps.get_models():
        if model._meta.concrete_model is user._meta.concrete_model:
            pre_delete.connect(release_those_of_user, sender=model, dispatch_uid=f"user_tasks {model._meta.label}")


def release_those_of_user(instance: Any, using: str, **_: Any) -> None:
    """Release what goes with a user, where Django deletes artifacts one by one and asks no query set of ours.

    Receives ``pre_delete``, which Django sends inside the transaction of the deletion.
    """
    if not go_unheard(using):
        owners = Q(status__user=instance.pk) | Q(status__parent__user=instance.pk)
        release(_artifacts(using).filter(owners))


def _artifacts(using: str) -> UserTaskArtifactQuerySet:
    found: Any = _artifact_model()._base_manager.using(using)
    artifacts: UserTaskArtifactQuerySet = found
    return artifacts


def _artifact_model() -> type[UserTaskArtifact]:
    model: type[UserTaskArtifact] = apps.get_model("user_tasks", "UserTaskArtifact")
    return model


def size_of(storage: Storage, name: str) -> int | None:
    """Return the size of a file in bytes, or None where its storage cannot tell."""
    try:
        return int(storage.size(name))
    except Exception:  # noqa: BLE001 - storages raise errors of their own, and a file may be gone
        return None
