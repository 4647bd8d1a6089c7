"""The receivers of Celery's signals."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

from celery import current_app as celery_app
from celery.exceptions import NotRegistered, Reject
from celery.signals import (
    before_task_publish,
    celeryd_after_setup,
    task_failure,
    task_postrun,
    task_prerun,
    task_rejected,
    task_retry,
    task_revoked,
    task_success,
    task_unknown,
)
from celery.states import FAILURE, IGNORED, REJECTED, RETRY, SUCCESS
from django.db import close_old_connections, connections, transaction
from django.dispatch import receiver
from django.utils.translation import gettext as _

from . import executions, outages, publishing, recording, user_task_stopped, user_tasks_revoked
from .canvas import Planner
from .explanations import explain
from .tasks import UserTaskMixin, has_row, tracked_task
from .texts import exception_text
from .utils import read_message, request_message

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


@celeryd_after_setup.connect
def come_after_celery(**_kwargs: Any) -> None:
    """Begin tasks after Celery's own receiver, which closes the database connection before each of them."""
    if task_prerun.disconnect(start_user_task):
        task_prerun.connect(start_user_task)


@before_task_publish.connect
def create_user_task(sender: str = "", body: Any = None, headers: Any = None, **_kwargs: Any) -> None:
    publishing.record(read_message(sender, body, headers))


@task_prerun.connect
def start_user_task(
    sender: Any = None, task_id: str | None = None, args: Any = (), kwargs: Any = None, **_kwargs: Any
) -> None:
    _close_obsolete_connections()
    if task_id is None or isinstance(sender, type):
        return
    if not sender.request.is_eager:
        outages.executions.begin()
    if isinstance(sender, UserTaskMixin):
        sender.request.user_task_execution = executions.begin(sender, task_id, args or (), kwargs or {})
    elif has_row(sender, sender.request) and (status := recording.started(task_id)) is not None:
        sender.request.user_task_execution = executions.Execution(task_id, status)
    executions.keep_alive(sender.request)


@task_success.connect
def task_succeeded(sender: Any = None, **_kwargs: Any) -> None:
    request = _request_of(sender)
    if not has_row(sender, request):
        return
    executions.end_loops(request)
    execution = executions.of(request)
    if execution is None:
        recording.succeeded(request.id)
    elif execution.status is not None or not recording.succeeded_alone(request.id):
        recording.succeeded(request.id, execution.status)


@task_failure.connect
def task_failed(sender: Any = None, task_id: str | None = None, exception: Any = None, **_kwargs: Any) -> None:
    executions.end_loops(_request_of(sender))
    text = _error_message(sender, exception)
    # What a task rejects has been recorded by `end_user_task`; newer versions of Celery tell of it here too, later.
    if has_row(sender, _request_of(sender)) and not isinstance(exception, Reject):
        recording.failed(task_id or sender.request.id, text)
    _give_up_what_follows(sender, _request_of(sender), task_id, text)


@task_retry.connect
def retrying_task(sender: Any = None, request: Any = None, **_kwargs: Any) -> None:
    request = request or _request_of(sender)
    executions.end_loops(request)
    recorded = getattr(request, "user_task_retried", False) is True
    if has_row(sender, request) and not recorded and not recording.retrying(request.id):
        recording.ended(request.id)


@task_revoked.connect
def task_is_revoked(sender: Any = None, request: Any = None, expired: bool = False, **_kwargs: Any) -> None:
    text = (
        _("The task waited longer than it was allowed to, and was not started.")
        if expired
        else _("The task was revoked.")
    )
    context = getattr(request, "_context", request)
    if has_row(sender, context):
        if expired:
            recording.failed(request.id, text)
        else:
            recording.revoked(request.id)
    _give_up_what_follows(sender, context, request.id, text)


@task_postrun.connect
def end_user_task(
    sender: Any = None, task_id: str | None = None, state: Any = None, retval: Any = None, **_kwargs: Any
) -> None:
    """Bring an execution to its end that Celery reports by none of the signals above."""
    request = _request_of(sender)
    try:
        _end_execution(sender, request, task_id, state, retval)
    finally:
        if request is not None and not request.is_eager:
            outages.executions.end()


def _end_execution(sender: Any, request: Any, task_id: str | None, state: Any, retval: Any) -> None:
    execution = executions.of(request)
    if execution is not None:
        executions.leave(execution)
    if task_id is None or state in (SUCCESS, FAILURE, RETRY) or not has_row(sender, request):
        return
    error = sys.exception() if state is None else None
    if error is not None and not isinstance(error, Exception):
        # The process is told to end, perhaps in the middle of a query, after which MySQL's client takes no other.
        _close_connections()
    executions.end_loops(request)
    if isinstance(error, Exception):
        recording.failed(task_id, _error_message(sender, error))
    elif state == REJECTED and getattr(retval, "requeue", False) and sender.acks_late:
        # Of a message that was acknowledged early there is nothing left to give back.
        recording.requeued(task_id)
    elif state in (IGNORED, REJECTED) and not getattr(request, "user_task_replaced", False):
        recording.failed(task_id, _("The task ended without a result."))
    else:
        recording.ended(task_id)


def _request_of(sender: Any) -> Any:
    return None if sender is None or isinstance(sender, type) else sender.request


def _error_message(task: Any, exception: Any) -> str:
    """Return what the project says about an exception; its hook must not keep the failure from being recorded."""
    try:
        return str(task.error_message(exception)) if isinstance(task, UserTaskMixin) else exception_text(exception)
    except Exception:
        logger.exception("The error message of task %s could not be made.", task.name)
        return exception_text(exception)


def _give_up_what_follows(task: Any, request: Any, task_id: str | None, text: str) -> None:
    """Cancel the tasks of ours that an ordinary one would have led to: no signal will ever name them."""
    if isinstance(task, UserTaskMixin) or request is None or request.id != task_id:
        return
    branch = Planner(tracked_task).message(request_message(request))
    if branch.nodes:
        recording.broken([node.task_id for node in branch.nodes if node.task_id != task_id], text)


@task_unknown.connect
def task_is_unknown(id: str = "", name: str = "", **_kwargs: Any) -> None:  # noqa: A002 - as Celery names it
    recording.failed(id, explain(NotRegistered(name)))


@task_rejected.connect
def message_is_rejected(message: Any = None, **_kwargs: Any) -> None:
    task_id = (getattr(message, "headers", None) or {}).get("id")
    if task_id:
        recording.failed(task_id, _("The message to the worker could not be read. The task was not started."))


@receiver(user_tasks_revoked)
def revoke_tasks(task_ids: Iterable[str], terminate: bool = False, **_kwargs: Any) -> None:
    """Tell the workers; the database has it already, so a broker that is down only makes the workers learn it later."""
    ids = list(task_ids)
    try:
        unwanted: Any = ids[0] if len(ids) == 1 else ids
        if terminate:
            celery_app.control.revoke(unwanted, terminate=True)
        else:
            celery_app.control.revoke(unwanted)
    except Exception:
        logger.warning("The broker could not be told that tasks %s are canceled.", ids, exc_info=True)


def _close_obsolete_connections() -> None:
    """Drop connections past their age or use, unless a transaction is going on."""
    try:
        in_transaction = transaction.get_connection().in_atomic_block
    except Exception:  # noqa: BLE001 - without a connection there is none to close
        return
    if in_transaction:
        return
    if celery_app.conf.get("CELERY_DB_REUSE_MAX"):
        # Celery is told to keep them; it keeps those, too, on which an error has occurred.
        _close_unusable_connections()
    else:
        close_old_connections()


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _close_unusable_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
