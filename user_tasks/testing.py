"""Helpers for a project's own tests: run a task without a broker, interrupt it, and see what its user saw.

They need neither pytest nor a worker; `user_tasks.pytest_plugin` offers them as fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery import Signature, uuid
from django.db import connections, router
from django.test.utils import override_settings
from django.utils import timezone

from . import canvas, losses, recording, transitions
from .conf import settings
from .models import UserTaskArtifact, UserTaskStatus
from .states import State
from .tasks import tracked_task
from .utils import call_message

if TYPE_CHECKING:
    from .querysets import UserTaskArtifactQuerySet

__all__ = [
    "Execution",
    "Moment",
    "assert_artifact",
    "assert_canceled",
    "assert_failed",
    "assert_progress",
    "assert_succeeded",
    "execute",
    "execute_canceled",
    "execute_lost",
    "execute_with_error",
    "lose",
    "redeliver",
]


@dataclass(frozen=True)
class Moment:
    """What the user could see of a task at some time."""

    state: str
    completed_steps: int
    total_steps: int


@dataclass(frozen=True)
class Execution:
    """What has become of a task that a test has run."""

    signature: Signature[Any] = field(repr=False)
    status: UserTaskStatus
    """The status, read after the end."""
    returned: Any
    """What the task returned; None if it raised."""
    raised: BaseException | None
    """What the task raised, a `TaskCanceledException` if it was stopped."""
    history: tuple[Moment, ...]
    """What the user could see, each time that it changed."""

    @property
    def states(self) -> list[str]:
        """The states that the task had, one after the other."""
        states = [moment.state for moment in self.history]
        return [state for place, state in enumerate(states) if not place or state != states[place - 1]]

    @property
    def artifacts(self) -> UserTaskArtifactQuerySet:
        """The outputs of the task."""
        return _artifacts(self.status)


def execute(signature: Signature[Any]) -> Execution:
    """Record a task and execute it in this process, retries included: ``execute(export.s(user_id=user.pk))``.

    No broker is asked, and nothing that the task raises is raised here. Loops with ``track`` write with every item.
    Raises `TypeError` if it is no user task, or says not, or wrongly, who triggered it.
    """
    signature = _recorded(signature)
    watch = _Watch(_status_of(signature).pk)
    returned, raised = None, None
    with ExitStack() as stack:
        stack.enter_context(override_settings(USER_TASKS_TRACK_SECONDS=0))
        stack.enter_context(connections[router.db_for_write(UserTaskStatus)].execute_wrapper(watch))
        try:
            result: Any = signature.apply(throw=False)
        except _WorkerDied as error:
            raised = error
        else:
            returned, raised = (None, result.result) if result.failed() else (result.result, None)
    watch.note(_status_of(signature))
    return Execution(signature, _status_of(signature), returned, raised, tuple(watch.history))


def execute_canceled(signature: Signature[Any], after: int = 0) -> Execution:
    """Execute a task that its user cancels once so many steps are done; before it starts if there are none.

    Raises `AssertionError` if it never had so many.
    """
    if not after:
        signature = _recorded(signature)
        _status_of(signature).cancel()
        return execute(signature)
    return _interrupted(signature, after, lambda status: status.cancel())


def execute_lost(signature: Signature[Any], after: int = 1) -> Execution:
    """Execute a task whose worker dies once so many steps are done, and is found lost: the status is Failed.

    What its ``finally`` holds is run all the same. `redeliver` does what a broker does then. Raises `AssertionError`
    if it never had so many steps.
    """
    execution = _interrupted(signature, after, _die)
    lose(execution.status)
    return execution


def execute_with_error(signature: Signature[Any], error: Exception, after: int = 1) -> Execution:
    """Execute a task in which an error is raised, once, when so many steps are done: it fails, or tries again.

    Raises `AssertionError` if it never had so many steps.
    """

    def fail(_status: UserTaskStatus) -> None:
        raise error

    return _interrupted(signature, after, fail)


def redeliver(execution: Execution) -> Execution:
    """Execute a task once more, as if its message had been delivered again."""
    return execute(execution.signature)


def lose(status: UserTaskStatus) -> None:
    """Let the worker of a task that is in progress have been silent for too long, and the task be found lost."""
    silent = timezone.now() - settings.USER_TASKS_LOST_AFTER - timedelta(seconds=1)
    UserTaskStatus.objects.filter(pk=status.pk).update(heartbeat=silent)
    losses.fail_lost()
    status.refresh_from_db()


def assert_progress(subject: Execution | UserTaskStatus, completed: int, total: int | None = None) -> None:
    """Check the steps that are done, and, unless it is None, how many there are."""
    status = _read(subject)
    found = (status.completed_steps, status.total_steps)
    wanted = (completed, status.total_steps if total is None else total)
    _check(found == wanted, f"{status} has {found[0]} of {found[1]} steps, not {wanted[0]} of {wanted[1]}.")


def assert_succeeded(subject: Execution | UserTaskStatus) -> None:
    """Check that the task has succeeded; otherwise say what it failed with."""
    _assert_state(_read(subject), State.SUCCEEDED)


def assert_canceled(subject: Execution | UserTaskStatus) -> None:
    """Check that the task has been canceled, and is at rest."""
    status = _read(subject)
    _assert_state(status, State.CANCELED)
    _check(status.finished is not None, f"{status} is canceled, but runs still.")


def assert_failed(subject: Execution | UserTaskStatus, text: str | None = None) -> None:
    """Check that the task has failed, and that its user reads this text, among others, as the error."""
    status = _read(subject)
    _assert_state(status, State.FAILED)
    errors = _errors(status)
    _check(text is None or any(text in error for error in errors), f"{status} has failed with {errors}, not {text!r}.")


def assert_artifact(
    subject: Execution | UserTaskStatus,
    name: str = "Output",
    *,
    text: str | None = None,
    url: str | None = None,
    content: bytes | None = None,
) -> UserTaskArtifact:
    """Return the output of this name, the newest of several.

    Of its whole text, its URL and the bytes of its file, checks what is given.
    """
    status = _read(subject)
    artifact = _artifacts(status).filter(name=name).order_by("-pk").first()
    if artifact is None:
        names = sorted(set(_artifacts(status).values_list("name", flat=True)))
        raise AssertionError(f"{status} has no output {name!r}, but {names}.")
    for what, found, wanted in (("text", artifact.text, text), ("URL", artifact.url, url)):
        _check(wanted is None or found == wanted, f"The {what} of {artifact} is {found!r}, not {wanted!r}.")
    if content is not None:
        found_content = _content_of(artifact)
        _check(found_content == content, f"The file of {artifact} holds {found_content!r}, not {content!r}.")
    return artifact


class _WorkerDied(BaseException):  # an Exception would be reported as the failure of the task
    """Ends an execution that reports nothing any more."""


def _die(_status: UserTaskStatus) -> None:
    raise _WorkerDied


def _interrupted(signature: Signature[Any], after: int, interrupt: Callable[[UserTaskStatus], None]) -> Execution:
    """Execute a task, and do something to it, once, when so many steps are done."""
    signature = _recorded(signature)
    pk = _status_of(signature).pk
    halt = transitions._halt
    reached = False

    def look(status: UserTaskStatus, *, is_there: bool) -> None:
        nonlocal reached
        halt(status, is_there=is_there)
        if not reached and status.pk == pk and status.completed_steps >= after:
            reached = True
            interrupt(status)
            halt(status, is_there=True)

    # Every step ends with this look, outside of all queries and transactions.
    with mock.patch.object(transitions, "_halt", look):
        execution = execute(signature)
    _check(reached, f"{execution.status} was never seen with {after} steps done.")
    return execution


def _recorded(signature: Signature[Any]) -> Signature[Any]:
    """Return a signature with an id, after recording the task as its publisher does."""
    name = str(signature.task)
    if tracked_task(name) is None:
        raise TypeError(f"{name} is no task with the base UserTask; containers of tasks need a worker.")
    signature = signature.clone()
    signature.options.setdefault("task_id", uuid())
    message = call_message(name, signature.args, signature.kwargs, signature.options)
    recording.enqueued(canvas.Planner(tracked_task).message(message).nodes)
    return signature


class _Watch:
    """Looks at a status after every UPDATE."""

    def __init__(self, pk: int) -> None:
        self.history: list[Moment] = []
        self._pk = pk
        self._is_looking = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        if not self._is_looking and sql.startswith("UPDATE") and UserTaskStatus._meta.db_table in sql:
            self._is_looking = True
            try:
                self._see()
            finally:
                self._is_looking = False
        return result

    def _see(self) -> None:
        status = UserTaskStatus.objects.using(router.db_for_write(UserTaskStatus)).filter(pk=self._pk).first()
        if status is not None:
            self.note(status)

    def note(self, status: UserTaskStatus) -> None:
        """Keep what can be seen, if it is new."""
        moment = Moment(status.state, status.completed_steps, status.total_steps)
        if self.history[-1:] != [moment]:
            self.history.append(moment)


def _status_of(signature: Signature[Any]) -> UserTaskStatus:
    status = recording.status_of(signature.options["task_id"])
    if status is None:
        raise AssertionError(f"The status of {signature.task} has been deleted.")
    return status


def _read(subject: Execution | UserTaskStatus) -> UserTaskStatus:
    status = subject.status if isinstance(subject, Execution) else subject
    status.refresh_from_db()
    return status


def _artifacts(status: UserTaskStatus) -> UserTaskArtifactQuerySet:
    return UserTaskArtifact.objects.filter(status=status).order_by("pk")


def _errors(status: UserTaskStatus) -> list[str]:
    return list(_artifacts(status).filter(name="Error").values_list("text", flat=True))


def _assert_state(status: UserTaskStatus, state: str) -> None:
    errors = "".join(f" It says: {error}" for error in _errors(status))
    _check(status.state == state, f"{status} is {status.state}, not {state}.{errors}")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _content_of(artifact: UserTaskArtifact) -> bytes | None:
    if not artifact.file:
        return None
    with artifact.file.open("rb") as file:
        content: bytes = file.read()
        return content
