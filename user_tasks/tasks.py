"""The base of a project's tasks, and the tasks of the package itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from celery import current_app, shared_task, uuid
from celery.contrib.django.task import DjangoTask
from celery.result import AsyncResult
from django.db import DatabaseError, InterfaceError

from . import canvas, executions, losses, outages, recording, removal
from .calls import signature_of
from .conf import settings
from .exceptions import TaskCanceledException
from .explanations import explain
from .models import UserTaskStatus
from .states import State
from .utils import call_message

logger = logging.getLogger(__name__)

__all__ = ["UserTask", "UserTaskMixin", "UserTaskStatus", "purge_old_user_tasks", "tracked_task"]


def _halting(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Run the task, and the project's own `before_start`, only if it has not been canceled."""

    @wraps(hook)
    def before_start(self: UserTaskMixin, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        status = getattr(self.request, "user_task_status", None) or _begin_if_tracked(self, task_id, args, kwargs)
        if status is not None and status.state == State.CANCELED:
            raise TaskCanceledException(f"Task {task_id} has been canceled.")
        return hook(self, task_id, args, kwargs)

    return _marked(before_start)


def _begin_if_tracked(
    task: UserTaskMixin, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> UserTaskStatus | None:
    """Begin what the receiver of ``task_prerun`` could not; a call that names no user, or no name, runs untracked."""
    try:
        task.request.user_task_status = status = executions.begin(task, task_id, args, kwargs)
    except (TaskCanceledException, DatabaseError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 - the project's own hooks may raise anything
        logger.warning("Task %s runs without a status: %s", task_id, error)
        return None
    executions.keep_alive(task.request)
    return status


def _checking(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Publish only what says who triggered it, where the project asks for that."""

    @wraps(hook)
    def apply_async(self: UserTaskMixin, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        if settings.USER_TASKS_STRICT_PUBLISH:
            plan = canvas.Planner(tracked_task).message(call_message(self.name, args, kwargs, options))
            recording.check_users({node.user_id for node in plan.nodes})
        return hook(self, args, kwargs, *rest, **options)

    return _marked(apply_async)


def _marked(hook: Callable[..., Any]) -> Callable[..., Any]:
    hook.guarded_by_user_tasks = True  # type: ignore[attr-defined]  # functions take attributes
    return hook


class UserTaskMixin:
    """Makes any Celery task show its status to the user who triggered it.

    The task takes a parameter `user_id`, by position or by keyword. A `user_task_name` among the keywords names the
    containers that the task runs in.
    """

    name: str
    run: Callable[..., Any]
    request: Any
    throws: tuple[type[Exception], ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the package's hooks before the class's own, which in `class T(Task, UserTaskMixin)` would hide them."""
        super().__init_subclass__(**kwargs)
        for hook, guard in (("before_start", _halting), ("apply_async", _checking)):
            own = getattr(cls, hook, None)
            if own is not None and not hasattr(own, "guarded_by_user_tasks"):
                setattr(cls, hook, guard(own))
        expected = getattr(cls, "throws", ())
        expected = expected if isinstance(expected, tuple) else (expected,)
        if TaskCanceledException not in expected:
            cls.throws = (*expected, TaskCanceledException)

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:  # noqa: ARG003 - for those who override it
        """Return the name that users read: by default that of the task function."""
        return cls.__name__

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:  # noqa: ARG004 - for those who override it
        """Return how many steps the task will take, before it adds any itself: by default 1."""
        return 1

    @classmethod
    def error_message(cls, exception: BaseException) -> str:
        """Return the text that users read when the task ends with this exception: by default ``str(exception)``.

        Where that is empty or fails, it is the name of the exception's class. What Celery raises to end a task is put
        into words.
        """
        return explain(exception)

    @classmethod
    def arguments_as_dict(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by the names of their parameters, with defaults.

        Parameters `*args` and `**kwargs` stand under their own names, as a tuple and a dict. Raises `TypeError` if
        the task cannot be called so.
        """
        bound = signature_of(cls).bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    @property
    def status(self) -> UserTaskStatus:
        """The status of this execution, read afresh; made if it is not there yet.

        Where the task is called as a function, as Celery's ``map``, ``starmap`` and ``chunks`` do, this is a status
        of its own that is never stored. Raises `TaskCanceledException` if it was there and has been deleted.
        """
        request = self.request
        if request.id is None:
            return executions.detached(self, request.args or (), request.kwargs or {})
        status = outages.survive(lambda: recording.status_of(request.id))
        if status is None:
            if getattr(request, "user_task_status", None) is not None:
                raise TaskCanceledException(f"The status of task {request.id} has been deleted.")
            status = executions.recorded_late(self, request.id, request.args or (), request.kwargs or {})
        status.is_repeated = getattr(getattr(request, "user_task_status", None), "is_repeated", False)
        request.user_task_status = status
        return status


class UserTask(UserTaskMixin, DjangoTask):  # type: ignore[type-arg]  # not generic at run time
    """Base class of tasks that users trigger: ``@shared_task(base=UserTask, bind=True)``."""

    abstract = True

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Do what `apply_async_on_commit` does, with the arguments of the task."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(  # type: ignore[override]  # Celery's returns None
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Record the task in the caller's transaction, and send its message once that has been committed.

        Returns the result, whose id is the status's `task_id`. A rollback leaves neither status nor message.
        """
        from . import deferral

        options["task_id"] = task_id = options.get("task_id") or uuid()
        message = call_message(self.name, args, kwargs, options)
        deferral.on_commit(message, lambda: self.apply_async(args, kwargs, **options))
        return self.AsyncResult(task_id)


@shared_task
def fail_lost_user_tasks() -> int:
    """Fail the tasks that have been silent for ``USER_TASKS_LOST_AFTER``, or waiting for ``USER_TASKS_PENDING_LIMIT``.

    For the beat schedule, once a minute or so. Returns how many there were.
    """
    return losses.fail_lost()


@shared_task
def purge_old_user_tasks() -> int:
    """Delete the statuses created longer than ``USER_TASKS_MAX_AGE`` ago, with their artifacts.

    Returns how many statuses went.
    """
    return removal.purge(settings.USER_TASKS_MAX_AGE)


def has_row(task: Any, request: Any) -> bool:
    """Tell whether the executions of a task have a status.

    An ordinary task has one where it takes the place of one of ours. Celery's messages say so under protocol 2; under
    protocol 1 nothing does, so there each task is looked up.
    """
    if task is None or request is None:
        return False
    return isinstance(task, UserTaskMixin) or bool(request.replaced_task_nesting) or task.app.conf.task_protocol == 1


def tracked_task(name: str) -> UserTaskMixin | None:
    """Return the registered task of this name if it is one of ours."""
    task = current_app.tasks.get(name)
    return task if isinstance(task, UserTaskMixin) else None
