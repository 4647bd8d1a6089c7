"""Messages that wait for the publisher's transaction.

Whatever Celery publishes goes through `Celery.send_task`, so that is instrumented for the projects that want plain
calls to wait. A canvas waits as a whole: its members that are none of ours too, and what Celery sends to watch a chord.
What Celery publishes from a running task on its own account, for a retry or in place of the task, leaves at once: the
exception that it raises afterwards rolls the transaction back.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

from celery import Celery, Task, chord, uuid
from django.db import DEFAULT_DB_ALIAS, transaction
from kombu.utils.functional import maybe_list

from . import outages, publishing, recording
from .conf import settings
from .containers import CHAIN, CHORD, GROUP
from .tasks import tracked_task
from .utils import Message, call_message

logger = logging.getLogger(__name__)

Function = Callable[..., Any]

_waits: ContextVar[bool] = ContextVar("user_tasks_waits", default=False)
_leaves_at_once: ContextVar[bool] = ContextVar("user_tasks_leaves_at_once", default=False)

_CONNECTIONS = ("producer", "publisher", "connection")
"""Given to the members of a group, and closed by the time at which these leave."""


@cache
def instrument() -> None:
    """Let plain calls wait for the transaction from now on, where the project wants that."""
    Celery.send_task = _sending_later(Celery.send_task)  # type: ignore[method-assign]  # that is instrumenting
    publishing.instrument_groups(_members_waiting)
    chord.run = _chord_waiting(chord.run)  # type: ignore[method-assign]  # that is instrumenting
    Task.retry = _at_once(Task.retry)  # type: ignore[method-assign]  # that is instrumenting
    Task.replace = _at_once(Task.replace)  # type: ignore[method-assign]  # that is instrumenting


def on_commit(message: Message, send: Callable[[], object]) -> None:
    """Record a message, in the caller's transaction where that is possible, and send it once that has been committed.

    Where it cannot be sent then, its task fails, and the transaction's other hooks run all the same.
    """
    recorded = _recorded(message)

    def send_recorded() -> None:
        with publishing.recorded_already(recorded), _set(_leaves_at_once):
            try:
                send()
            except Exception:
                # What the project puts around its publishing may have failed, of which Celery does not know.
                recording.unsent([message.task_id])
                raise

    transaction.on_commit(send_recorded, using=_database(), robust=_in_transaction())


def _recorded(message: Message) -> frozenset[str]:
    """Record a message, and return the ids that need not be recorded when it leaves."""
    try:
        publishing.record(message)
    except Exception:
        if settings.USER_TASKS_STRICT_PUBLISH:
            raise
        logger.exception("Task %s could not be recorded with its transaction.", message.task_id)
        return frozenset()
    return publishing.recorded.get() | {message.task_id}


def _sending_later(send: Function) -> Function:
    parameters = inspect.signature(send)

    @wraps(send)
    def send_task(self: Any, name: str, *args: Any, **options: Any) -> Any:
        if not _may_wait():
            return send(self, name, *args, **options)
        bound = parameters.bind(self, name, *args, **options).arguments
        call = {**bound, **bound.pop("options", {})}
        if not _waits.get() and not any(map(_is_tracked, _parts(call))):
            return send(self, name, *args, **options)
        return _send_later(send, {key: value for key, value in call.items() if key not in _CONNECTIONS})

    return send_task


def _send_later(send: Function, call: dict[str, Any]) -> Any:
    task_id = call["task_id"] = call.get("task_id") or uuid()
    on_commit(call_message(call["name"], call.get("args"), call.get("kwargs"), call), lambda: send(**call))
    result = (call.get("result_cls") or call["self"].AsyncResult)(task_id)
    result.ignored = call.get("ignore_result")
    return result


def _members_waiting(publish: Function) -> Function:
    @wraps(publish)
    def publish_members(self: Any, tasks: Iterable[Any], *args: Any, **options: Any) -> Iterator[Any]:
        prepared = list(tasks)
        with _waiting(signature for signature, *_ in prepared):
            yield from publish(self, iter(prepared), *args, **options)

    return publish_members


def _chord_waiting(publish: Function) -> Function:
    @wraps(publish)
    def run(self: Any, header: Any, body: Any, *args: Any, **options: Any) -> Any:
        with _waiting([*header.tasks, body]):
            return publish(self, header, body, *args, **options)

    return run


def _at_once(publish: Function) -> Function:
    @wraps(publish)
    def publish_at_once(*args: Any, **kwargs: Any) -> Any:
        with _set(_leaves_at_once):
            return publish(*args, **kwargs)

    return publish_at_once


@contextmanager
def _waiting(signatures: Iterable[Any]) -> Iterator[None]:
    """Let everything wait that is published for signatures among which one of ours is."""
    if _may_wait() and any(map(_is_tracked, signatures)):
        with _set(_waits):
            yield
    else:
        yield


@contextmanager
def _set(flag: ContextVar[bool]) -> Iterator[None]:
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)


def _may_wait() -> bool:
    return bool(settings.USER_TASKS_PUBLISH_ON_COMMIT) and not _leaves_at_once.get() and _in_transaction()


def _in_transaction() -> bool:
    return bool(transaction.get_connection(_database()).in_atomic_block)


def _database() -> str:
    """Return in which database the caller's transaction is: the project's own, or else that of the statuses."""
    return DEFAULT_DB_ALIAS if transaction.get_connection().in_atomic_block else outages.home()


def _parts(call: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the signature of a call, and those of everything that follows it."""
    yield {"task": call["name"], "kwargs": {}, "options": {}}
    for key in ("chain", "link", "link_error", "chord"):
        yield from maybe_list(call.get(key)) or ()


def _is_tracked(signature: Any) -> bool:
    """Tell whether a task of ours is in a signature, or follows it."""
    kwargs, options = signature["kwargs"], signature["options"]
    inner: list[Any] = []
    if signature["task"] in (CHAIN, GROUP):
        inner += kwargs["tasks"]
    elif signature["task"] == CHORD:
        inner += [*publishing.members(kwargs["header"]), kwargs["body"]]
    for key in ("chain", "link", "link_error", "chord"):
        inner += maybe_list(options.get(key)) or ()
    return tracked_task(signature["task"]) is not None or any(map(_is_tracked, inner))
