"""What the world is told: that tasks have stopped, and that queues should forget them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import outages, user_task_stopped, user_tasks_revoked

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet


def stopped(statuses: UserTaskStatusQuerySet) -> None:
    """Send `user_task_stopped` for each of the statuses, freshly read; no query where nobody listens."""
    model = statuses.model
    if user_task_stopped.has_listeners(model):
        for status in outages.survive(lambda: list(statuses), statuses.db, outages.TRIES):
            user_task_stopped.send_robust(sender=model, status=status)


def revoked(statuses: UserTaskStatusQuerySet, task_ids: Iterable[str], *, terminate: bool = False) -> None:
    """Ask the queue not to start these tasks; with `terminate`, to end the processes that execute them."""
    if ids := list(task_ids):
        user_tasks_revoked.send_robust(sender=statuses.model, task_ids=ids, terminate=terminate)
