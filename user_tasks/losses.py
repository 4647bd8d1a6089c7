"""Tasks that nobody reports on any more: found, and failed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _

from . import transitions
from .conf import settings
from .models import UserTaskStatus
from .querysets import WITH_CONTAINERS
from .states import is_final

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet


def fail_lost() -> int:
    """Fail the tasks that have been silent, or waiting, for longer than the settings allow; return how many.

    A canceled task whose worker is silent comes to rest instead. See ``USER_TASKS_LOST_AFTER`` and
    ``USER_TASKS_PENDING_LIMIT``.
    """
    now = timezone.now()
    silent = UserTaskStatus.objects.silent_since(now - settings.USER_TASKS_LOST_AFTER)
    failed = _fail_all(silent, _("The worker that ran the task has stopped reporting. The task was given up."))
    if settings.USER_TASKS_PENDING_LIMIT is not None:
        text = _("The task has waited too long for a worker, and was given up.")
        failed += _fail_all(UserTaskStatus.objects.overdue_since(now - settings.USER_TASKS_PENDING_LIMIT), text)
        failed += _fail_all(UserTaskStatus.objects.unreached_since(now - settings.USER_TASKS_PENDING_LIMIT), text)
    _settle_stranded(now - settings.USER_TASKS_LOST_AFTER)
    return failed


def beat(keys: Collection[int]) -> None:
    """Record that the tasks with these primary keys are being executed; one that was taken for lost is put back."""
    tasks = UserTaskStatus.objects.filter(pk__in=keys)
    if tasks.filter(lost=False).change(heartbeat=timezone.now()) < len(keys):
        for status in tasks.filter(lost=True):
            transitions.revive(status)


def _settle_stranded(moment: datetime) -> None:
    """Tell containers of the end of their members, where a process was killed before it could, the inner ones first."""
    for container in UserTaskStatus.objects.stranded_since(moment).order_by("-pk"):
        for member in UserTaskStatus.objects.ended_in(container).select_related(WITH_CONTAINERS):
            transitions.tell_containers(member)


def _fail_all(tasks: UserTaskStatusQuerySet, text: str) -> int:
    found = tasks.select_related(WITH_CONTAINERS).iterator(chunk_size=500)
    return sum(_fail(status, text) for status in found)


def _fail(status: UserTaskStatus, text: str) -> bool:
    if is_final(status.state):
        return transitions.end(status)
    return transitions.lose(status, text)
