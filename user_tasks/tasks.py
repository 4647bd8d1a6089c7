"""The base of a project's tasks, and the tasks of the package itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from functools import wraps
from types import GenericAlias
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from celery import current_app, shared_task, uuid
from celery.contrib.django.task import DjangoTask
from celery.result import AsyncResult
from django.db import DatabaseError, InterfaceError

from . import canvas, executions, losses, outages, recording, removal, threads, tracking
from .calls import signature_of
from .conf import settings
from .exceptions import TaskCanceledException
from .explanations import explain
from .models import UserTaskStatus
from .tracking import Label
from .utils import call_message

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

__all__ = ["UserTask", "UserTaskMixin", "UserTaskStatus", "purge_old_user_tasks", "tracked_task"]


def _halting(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Run the task, and the project's own `before_start`, only if it has not been canceled."""

    @wraps(hook)
    def before_start(self: UserTaskMixin, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        execution = executions.of(self.request) or _begin_if_tracked(self, task_id, args, kwargs)
        if execution is not None and execution.is_canceled:
            raise TaskCanceledException(f"Task {task_id} has been canceled.")
        return hook(self, task_id, args, kwargs)

    return _marked(before_start)


def _begin_if_tracked(
    task: UserTaskMixin, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> executions.Execution | None:
    """Begin what the receiver of ``task_prerun`` could not; a call that names no user, or no name, runs untracked."""
    try:
        task.request.user_task_execution = execution = executions.begin(task, task_id, args, kwargs)
    except (TaskCanceledException, DatabaseError, InterfaceError):
        raise
    except Exception as error:  # noqa: BLE001 - the project's own hooks may raise anything
        logger.warning("Task %s runs without a status: %s", task_id, error)
        return None
    executions.keep_alive(task.request)
    return execution


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
    request_stack: Any
    throws: tuple[type[Exception], ...]

    if TYPE_CHECKING:

        @property
        def request(self) -> Any:
            """What Celery tells about the current execution."""

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
        return self._read_status(self.request)

    def _read_status(self, request: Any) -> UserTaskStatus:
        if request.id is None:
            return executions.detached(self, request.args or (), request.kwargs or {})
        execution = executions.of(request)
        status = outages.survive(lambda: recording.status_of(request.id))
        if status is None:
            if execution is not None:
                raise TaskCanceledException(f"The status of task {request.id} has been deleted.")
            status = executions.recorded_late(self, request.id, request.args or (), request.kwargs or {})
        elif execution is not None and execution.status is not None:
            status.is_repeated = execution.status.is_repeated
            status.progress_tracker = tracking.tracker_of(execution.status)
        if execution is None:
            request.user_task_execution = executions.Execution(request.id, status)
        else:
            execution.status = status
        return status

    def track(
        self, rows: Iterable[Item], total: int | None = None, label: Label[Item] | None = None
    ) -> Generator[Item, None, None]:
        """Yield the items of `rows`, each a step of this execution: see `UserTaskStatus.track`."""
        return self._held_status(self.request).track(rows, total, label)

    def atrack(
        self,
        rows: Iterable[Item] | AsyncIterable[Item],
        total: int | None = None,
        label: Label[Item] | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Do what `track` does, for ``async for``: see `UserTaskStatus.atrack`.

        Raises `RuntimeError` where the event loop runs in a thread that does not know the task, as `async_to_sync` may
        have it.
        """
        if self.request_stack.top is None:
            raise RuntimeError(
                f"This thread does not know what {self.name} is executed for. Take `status = self.status` outside of"
                " the coroutine, and loop over `status.atrack(...)`."
            )
        return self._follow(self.request, rows, total, label)

    def steps(self, steps: int) -> AbstractContextManager[None]:
        """Return a context that is worth a number of steps: see `UserTaskStatus.steps`."""
        return self._held_status(self.request).steps(steps)

    async def _follow(
        self, request: Any, rows: Iterable[Item] | AsyncIterable[Item], total: int | None, label: Label[Item] | None
    ) -> AsyncGenerator[Item, None]:
        async with threads.connected():
            status = await sync_to_async(self._held_status)(request)
            async with aclosing(status.atrack(rows, total, label)) as items:
                async for item in items:
                    yield item

    def _held_status(self, request: Any) -> UserTaskStatus:
        """Return the status as an execution last read it, or read it."""
        execution = executions.of(request)
        held = None if execution is None else execution.status
        return self._read_status(request) if held is None else held


if TYPE_CHECKING:
    from typing_extensions import ParamSpec
    from typing_extensions import TypeVar as TypeVarWithDefault

    Parameters = ParamSpec("Parameters", default=...)
    Returned_co = TypeVarWithDefault("Returned_co", covariant=True, default=Any)

    class GenericTask(DjangoTask[Parameters, Returned_co]):
        """Celery's task, which older versions do not know to be generic at run time."""

else:
    Parameters, Returned_co = None, Any

    class GenericTask(DjangoTask):
        """Celery's task, which may be given parameters for type checkers."""

        abstract = True

        __class_getitem__ = classmethod(GenericAlias)


class UserTask(UserTaskMixin, GenericTask[Parameters, Returned_co]):
    """Base class of tasks that users trigger: ``@shared_task(base=UserTask, bind=True)``.

    A type checker may be told what a task takes and returns: ``class Export(UserTask[[str, int], None])``.
    """

    abstract = True

    def delay_on_commit(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> AsyncResult[Returned_co]:
        """Do what `apply_async_on_commit` does, with the arguments of the task."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(  # type: ignore[override]  # any arguments and options are handed on
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Returned_co]:
        """Record the task, and send its message once the caller's transaction has been committed.

        Returns the result, whose id is the status's `task_id`. A rollback leaves no message, and no status unless
        ``DATABASE_ROUTERS`` keep statuses in another database than that of the transaction.
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
