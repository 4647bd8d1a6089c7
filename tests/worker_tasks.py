"""Tasks of a project, for the tests in which real workers execute them.

What happens in a task is noted in a file, which the test reads.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Task, current_app, current_task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun, worker_init
from django.conf import settings

from user_tasks import user_task_stopped
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask, UserTaskMixin

if TYPE_CHECKING:
    CeleryTask = Task[Any, Any]
else:
    CeleryTask = Task


def note(task_id: str, text: str) -> None:
    """Write down what happened to a task; whole lines, also when several processes write."""
    folder = Path(settings.MEDIA_ROOT, "notes")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / task_id).open("a") as file:
        file.write(f"{text}\n")


def notes(task_id: str) -> list[str]:
    """Return what happened to a task, in order."""
    file = Path(settings.MEDIA_ROOT, "notes", task_id)
    return file.read_text().splitlines() if file.exists() else []


def note_stop(status: UserTaskStatus, **_: Any) -> None:
    """Receive `user_task_stopped`."""
    stored = UserTaskStatus.objects.filter(pk=status.pk, state=status.state).exists()
    note(status.task_id, f"stopped {status.state}" if stored else f"stopped {status.state}, not stored")


@worker_init.connect
def note_stops(**_: Any) -> None:
    user_task_stopped.connect(note_stop)


@task_postrun.connect
def note_end(task_id: str, **_: Any) -> None:
    note(task_id, "ended")


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as projects do."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def take_steps(task: Any, steps: int = 3) -> None:
    """Note that the task runs, and do its steps."""
    note(task.request.id, "ran")
    task.status.increment_total_steps(steps - 1)
    for _ in range(steps):
        task.status.increment_completed_steps()


@shared_task(base=UserTask, bind=True)
def bound(self: UserTask, user_id: int, label: str = "a") -> None:
    take_steps(self)


@shared_task(base=UserTask)
def unbound(user_id: int, label: str = "a") -> None:
    take_steps(current_task)


@shared_task(base=UserTask, bind=True, name="shop.renamed")
def renamed(self: UserTask, label: str, rows: list[int], user_id: int) -> None:
    take_steps(self)


@shared_task(base=UserTask, bind=True)
@logged
def decorated(self: UserTask, label: str, user_id: int) -> None:
    take_steps(self)


@shared_task(base=UserTask)
@logged
def decorated_unbound(label: str, user_id: int) -> None:
    take_steps(current_task)


@shared_task(base=UserTask, bind=True)
def keyword_only(self: UserTask, *, user_id: int, label: str = "a") -> None:
    take_steps(self)


class MixinFirst(UserTaskMixin, CeleryTask):
    """A task as a class, with a hook of its own."""

    name = "worker_tasks.MixinFirst"
    ignore_result = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note(task_id, "prepared")

    def run(self, user_id: int) -> None:
        take_steps(self)


class MixinLast(CeleryTask, UserTaskMixin):
    """The same the other way round."""

    name = "worker_tasks.MixinLast"
    ignore_result = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note(task_id, "prepared")

    def run(self, user_id: int) -> None:
        take_steps(self)


mixin_first = current_app.register_task(MixinFirst())
mixin_last = current_app.register_task(MixinLast())


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "text": lambda: ValueError("bad row"),
    "empty": ValueError,
    "NUL": lambda: ValueError("bad\0row"),
    "long": lambda: ValueError("ä" * 65_536),
    "unprintable": Unprintable,
    "several": lambda: ExceptionGroup("two rows", [ValueError("bad row"), KeyError("row")]),
    "soft limit": SoftTimeLimitExceeded,
}


class Polite(UserTask):
    """A task with a text of its own for the users."""

    abstract = True

    @classmethod
    def error_message(cls, exception: BaseException) -> str:
        return f"Sorry: {exception}"


@shared_task(base=UserTask, bind=True)
def failing(self: UserTask, user_id: int, error: str) -> None:
    note(self.request.id, "ran")
    raise ERRORS[error]()


@shared_task(base=Polite, bind=True)
def polite(self: Polite, user_id: int) -> None:
    raise ValueError("bad row")


@shared_task(base=UserTask, bind=True, max_retries=2, default_retry_delay=0)
def retrying(self: UserTask, user_id: int, failures: int) -> None:
    note(self.request.id, f"{self.status.state} {self.status.completed_steps} of {self.status.total_steps}")
    self.status.increment_total_steps(1)
    self.status.increment_completed_steps()
    if self.request.retries < failures:
        raise self.retry(exc=ValueError(f"not at {self.request.retries}"))


@shared_task(base=UserTask, bind=True, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def retrying_by_itself(self: UserTask, user_id: int, failures: int) -> None:
    if self.request.retries < failures:
        raise ValueError(f"not at {self.request.retries}")


@shared_task(base=UserTask, bind=True)
def waiting(self: UserTask, user_id: int, previous: Any = None) -> None:
    """Take steps until the test cancels or deletes the status."""
    note(self.request.id, "ran")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        self.status.increment_completed_steps()
        time.sleep(0.05)  # what a step does


@shared_task(base=UserTask, bind=True)
def ending_itself(self: UserTask, user_id: int, end: str) -> None:
    note(self.request.id, "ran")
    status = self.status
    if end == "Failed":
        status.fail("not today")
    elif end == "Canceled":
        status.cancel()
    else:
        status.succeed()
    note(self.request.id, "returned")


class Labeled(UserTask):
    """A task whose row is found by its label."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return str(arguments_dict["label"])


@shared_task(base=Labeled, bind=True, ignore_result=False)
def part(self: Labeled, *results: Any, user_id: int, label: str, end: str = "", user_task_name: str = "") -> str:
    """Be one task of a workflow: fail or wait for cancellation if told so."""
    note(self.request.id, "ran")
    self.status.set_state(f"Doing {label}")
    if end == "fail":
        raise ValueError(f"{label} failed")
    deadline = time.monotonic() + 60
    while end == "wait" and time.monotonic() < deadline:
        self.status.set_state(f"Waiting in {label}")
        time.sleep(0.05)  # between two looks at whether it is canceled
    return label


@shared_task(ignore_result=False)
def ordinary(*results: Any) -> str:
    return "ordinary"


@shared_task(base=UserTask, bind=True, time_limit=1)
def too_slow(self: UserTask, user_id: int) -> None:
    note(self.request.id, "ran")
    time.sleep(60)  # past its limit


@shared_task(base=UserTask, bind=True, soft_time_limit=1)
def rather_slow(self: UserTask, user_id: int) -> None:
    note(self.request.id, "ran")
    time.sleep(60)  # past its limit


@shared_task(base=UserTask, bind=True)
def crashing(self: UserTask, user_id: int) -> None:
    note(self.request.id, "ran")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(base=UserTask, bind=True)
def leaving(self: UserTask, user_id: int, reject: bool) -> None:
    note(self.request.id, "ran")
    raise Reject("not here", requeue=False) if reject else Ignore("not now")
