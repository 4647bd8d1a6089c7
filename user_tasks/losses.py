"""Tasks that nobody reports on any more: found, and failed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _

from . import transitions
from .conf import settings
from .containers import SEQUENCES
from .models import UserTaskStatus
from .querysets import WITH_CONTAINERS

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet


def fail_lost() -> int:
    """Fail the tasks that have been silent, or waiting, for longer than the settings allow; return how many.

    A canceled task whose worker is silent comes to rest instead, and what can no longer run is canceled. See
    ``USER_TASKS_LOST_AFTER`` and ``USER_TASKS_PENDING_LIMIT``.
    """
    now = timezone.now()
    moment = now - settings.USER_TASKS_LOST_AFTER
    statuses = UserTaskStatus.objects.at_home()
    silent = statuses.silent_since(moment)
    failed = _fail_all(silent, _("The worker that ran the task has stopped reporting. The task was given up."))
    if settings.USER_TASKS_PENDING_LIMIT is not None:
        text = _("The task has waited too long for a worker, and was given up.")
        failed += _fail_all(statuses.overdue_since(now - settings.USER_TASKS_PENDING_LIMIT), text)
        failed += _fail_all(statuses.unreached_since(now - settings.USER_TASKS_PENDING_LIMIT), text)
    _settle_stranded(moment)
    return failed + _withdraw_unsent(moment)


def give_up(tasks: UserTaskStatusQuerySet) -> int:
    """Fail those of the tasks that are not at rest, as if they had been silent for too long; return how many."""
    return _fail_all(tasks.at_home().unfinished().leaves(), _("The task was given up by an administrator."))


def beat(task_ids: Collection[str]) -> None:
    """Record that tasks are being executed; one that was taken for lost is put back."""
    tasks = UserTaskStatus.objects.at_home().filter(task_id__in=task_ids)
    if tasks.filter(lost=False).change(heartbeat=timezone.now()) < len(task_ids):
        for status in tasks.filter(lost=True):
            transitions.revive(status)


def _settle_stranded(moment: datetime) -> None:
    """Tell containers of the end of their members, where a process was killed before it could, the inner ones first."""
    statuses = UserTaskStatus.objects.at_home()
    for container in statuses.stranded_since(moment).order_by("-pk"):
        for member in statuses.ended_in(container).select_related(WITH_CONTAINERS):
            transitions.tell_containers(member)


def _withdraw_unsent(moment: datetime) -> int:
    """Cancel what has waited since `moment` behind a member of a chain or a chord without success; return how much.

    The member's process was killed, as it seems, while it published that, so the message may never have left.
    """
    withdrawn = 0
    statuses = UserTaskStatus.objects.at_home()
    for container in statuses.half_ended(SEQUENCES):
        for member in statuses.unsuccessful_in(container):
            waiting = statuses.waiting_behind(member, moment).select_related(WITH_CONTAINERS)
            withdrawn += sum(map(transitions.withdraw, waiting))
    return withdrawn


def _fail_all(tasks: UserTaskStatusQuerySet, text: str) -> int:
    found = tasks.select_related(WITH_CONTAINERS).iterator(chunk_size=500)
    return sum(transitions.lose(status, text) for status in found)
