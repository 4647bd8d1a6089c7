"""The receivers of Celery's signals."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

from celery import current_app as celery_app
from celery.signals import (
    before_task_publish,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_revoked,
    task_success,
)
from celery.states import FAILURE, RETRY, SUCCESS
from django.db import close_old_connections, transaction
from django.utils.translation import gettext as _

from . import canvas, publishing, recording, user_task_stopped, user_tasks_revoked
from .executions import begin
from .tasks import UserTaskMixin, tracked_task
from .utils import read_message

__all__ = [
    "celery_app",
    "create_user_task",
    "end_user_task",
    "retrying_task",
    "revoke_tasks",
    "start_user_task",
    "task_failed",
    "task_is_revoked",
    "task_succeeded",
    "user_task_stopped",
]

logger = logging.getLogger(__name__)


@before_task_publish.connect
def create_user_task(sender: str = "", body: Any = None, headers: Any = None, **_kwargs: Any) -> None:
    message = read_message(sender, body, headers)
    if message.task_id in publishing.recorded():
        return
    planned_earlier = message.retries or message.parent_id or celery_app.current_worker_task
    if planned_earlier and recording.published(message.task_id, canvas.due(message.eta)):
        return
    if not message.retries:
        recording.enqueued(canvas.Planner(tracked_task).message(message).nodes)


@task_prerun.connect
def start_user_task(
    sender: Any = None, task_id: str | None = None, args: Any = (), kwargs: Any = None, **_kwargs: Any
) -> None:
    _close_obsolete_connections()
    if isinstance(sender, UserTaskMixin) and task_id is not None:
        sender.request.user_task_status = begin(sender, task_id, args or (), kwargs or {})


@task_success.connect
def task_succeeded(sender: Any = None, **_kwargs: Any) -> None:
    if isinstance(sender, UserTaskMixin):
        recording.succeeded(sender.request.id)


@task_failure.connect
def task_failed(sender: Any = None, task_id: str | None = None, exception: Any = None, **_kwargs: Any) -> None:
    if isinstance(sender, UserTaskMixin):
        recording.failed(task_id or sender.request.id, sender.error_message(exception))


@task_retry.connect
def retrying_task(sender: Any = None, request: Any = None, **_kwargs: Any) -> None:
    if isinstance(sender, UserTaskMixin):
        recording.retrying((request or sender.request).id)


@task_revoked.connect
def task_is_revoked(sender: Any = None, request: Any = None, expired: bool = False, **_kwargs: Any) -> None:
    if not isinstance(sender, UserTaskMixin):
        return
    if expired:
        recording.failed(request.id, _("The task waited longer than it was allowed to, and was not started."))
    else:
        recording.revoked(request.id)


@task_postrun.connect
def end_user_task(sender: Any = None, task_id: str | None = None, state: Any = None, **_kwargs: Any) -> None:
    """Bring an execution to its end that Celery reports by none of the signals above."""
    if not isinstance(sender, UserTaskMixin) or task_id is None or state in (SUCCESS, FAILURE, RETRY):
        return
    error = sys.exception() if state is None else None
    if isinstance(error, Exception):
        recording.failed(task_id, sender.error_message(error))
    else:
        recording.ended(task_id)


@user_tasks_revoked.connect
def revoke_tasks(task_ids: Iterable[str], **_kwargs: Any) -> None:
    """Tell the workers; the database has it already, so a broker that is down only makes the workers learn it later."""
    ids = list(task_ids)
    try:
        celery_app.control.revoke(ids[0] if len(ids) == 1 else ids)
    except Exception:
        logger.warning("The broker could not be told that tasks %s are canceled.", ids, exc_info=True)


def _close_obsolete_connections() -> None:
    """Drop connections past their age or use, unless a transaction is going on."""
    try:
        in_transaction = transaction.get_connection().in_atomic_block
    except Exception:  # noqa: BLE001 - without a connection there is none to close
        return
    if not in_transaction:
        close_old_connections()
