"""What a request is shown: the same statuses and artifacts as in the API."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django.core.paginator import InvalidPage, Page
from django.db.models import Count, Max
from django.http import Http404, HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import access
from ..models import UserTaskArtifact, UserTaskStatus
from ..paginators import InTurn, UncountedPaginator
from ..querysets import UserTaskStatusQuerySet
from .presentation import TEXT_SHOWN, Output, Task

TRAY_SIZE = 8
"""Tasks that the tray holds; the list has them all."""

PARTS_WITH_OUTPUTS = 100
"""Members of a container whose outputs stand on its page too; a workflow may have 100,000."""

COUNTED = 999
"""Running tasks up to which the tray counts them."""

JUST_FINISHED = timedelta(minutes=10)
"""How long the tray still holds a finished task."""


def shown(statuses: Iterable[UserTaskStatus], user: Any) -> list[Task]:
    """Return the statuses as the user is shown them now."""
    now = timezone.now()
    return [Task(status, user, now) for status in statuses]


def task_or_404(request: HttpRequest, uuid: UUID, view: Any = None) -> Task:
    """Return a task that the user may see, with its container and the version of its artifacts."""
    statuses = UserTaskStatus.objects.with_artifact_version().select_related("parent")
    status = access.visible_statuses(request, statuses, view).filter(uuid=uuid).first()
    if status is None or not access.allows(request.user, "view", status):
        raise Http404(_("There is no such task."))
    return Task(status, request.user, timezone.now())


def visible(request: HttpRequest, statuses: UserTaskStatusQuerySet, view: Any = None) -> UserTaskStatusQuerySet:
    """Return those of the statuses that the user may see, which are none without the permission to view any."""
    if not access.allows(request.user, "view", UserTaskStatus):
        return statuses.none()
    # Filters return the kind of query that they are given.
    return cast("UserTaskStatusQuerySet", access.visible_statuses(request, statuses, view))


def running_first(statuses: UserTaskStatusQuerySet, others: UserTaskStatusQuerySet) -> InTurn:
    """Return those of the statuses that run, then the others, each with the newest first."""
    return InTurn(statuses.live().newest_first(), others.newest_first())


def page_of(rows: Any, size: int, number: str | None) -> Page[Any]:
    """Return one page of a query's rows, by the number in a request; raises `Http404` where there is no such page."""
    try:
        return UncountedPaginator(rows, size).page(number or 1)
    except InvalidPage as error:
        raise Http404(str(error)) from error


def outputs(request: HttpRequest, status: UserTaskStatus, size: int, number: str | None, view: Any) -> Page[Any]:
    """Return a page of the artifacts that the user may see: errors first, then its own, then those of its parts."""
    artifacts: Any = UserTaskArtifact.objects.of(status, PARTS_WITH_OUTPUTS).errors_first()
    if not access.allows(request.user, "view", UserTaskArtifact):
        artifacts = artifacts.none()
    found = access.visible_artifacts(request, artifacts.with_text_start(TEXT_SHOWN).with_containers(), view)
    page = page_of(found, size, number)
    page.object_list = [
        Output(artifact, artifact.status_id != status.pk)
        for artifact in page.object_list
        if access.allows(request.user, "view", artifact)
    ]
    return page


def outputs_version(status: UserTaskStatus) -> tuple[Any, ...]:
    """Return what changes with what `outputs` finds."""
    if not status.is_container:
        return (str(status.artifact_version),)  # type: ignore[attr-defined]  # by with_artifact_version
    found = UserTaskArtifact.objects.of(status, PARTS_WITH_OUTPUTS)
    return tuple(found.aggregate(Count("pk"), Max("modified")).values())


def tray(request: HttpRequest, view: Any = None) -> dict[str, Any]:
    """Return what the tray shows: the user's own tasks that run or have just finished, and how many run."""
    own = visible(request, UserTaskStatus.objects.roots().filter(user=request.user.pk), view)
    recent = running_first(own, own.not_live().finished_since(timezone.now() - JUST_FINISHED))
    tasks = shown(recent[:TRAY_SIZE], request.user)
    running = sum(task.is_live for task in tasks)
    if len(tasks) == TRAY_SIZE:
        running = own.live()[:COUNTED].count()
    return {"tasks": tasks, "running": running}
