"""How long the files of artifacts are kept, where that is shorter than their rows are."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.utils import timezone

from . import containers, outages
from .conf import settings

if TYPE_CHECKING:
    from .models import UserTaskArtifact
    from .querysets import UserTaskArtifactQuerySet

BATCH = 500
"""Artifacts that lose their files in one transaction."""


def end(artifact: UserTaskArtifact) -> datetime:
    """Return until when the file of an artifact is promised: to its own age, or to that of the tree that it is in."""
    if settings.USER_TASKS_ARTIFACT_MAX_AGE is None:
        tree_end: datetime = containers.root(artifact.status).created + settings.USER_TASKS_MAX_AGE
        return tree_end
    own_end: datetime = (artifact.stored or artifact.created) + settings.USER_TASKS_ARTIFACT_MAX_AGE
    return own_end


def is_over(artifact: UserTaskArtifact) -> bool:
    """Tell whether an artifact has lost its file for its age, or is about to with the next purge.

    A file without an age of its own stays as long as its status does, however old that is.
    """
    if artifact.expired is not None:
        return True
    return settings.USER_TASKS_ARTIFACT_MAX_AGE is not None and end(artifact) <= timezone.now()


def expire() -> int:
    """Take the files away from the artifacts past their age, and return how many did; the rows stay, and say so."""
    from .models import UserTaskArtifact

    if settings.USER_TASKS_ARTIFACT_MAX_AGE is None:
        return 0
    artifacts = UserTaskArtifact.objects.using(outages.home())
    old = artifacts.stored_before(timezone.now() - settings.USER_TASKS_ARTIFACT_MAX_AGE)
    expired, last = 0, None
    while batch := old.oldest_after(last, BATCH):
        last = batch[-1]
        # One of them may have been given a new file by now.
        chosen = old.filter(pk__in=[pk for _created, pk in batch])
        expired += outages.insist(partial(_take_files, chosen), artifacts.db)
    return expired


def _take_files(artifacts: UserTaskArtifactQuerySet) -> int:
    return artifacts.update(file="", expired=timezone.now(), modified=timezone.now())
