"""Tasks of a project, for the tests in which real workers execute them.

What happens in a task is noted in a file, which the test reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from celery import shared_task
from celery.signals import task_postrun, worker_init
from django.conf import settings

from user_tasks import user_task_stopped
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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
    note(status.task_id, f"stopped {status.state}" if stored else f"stopped too early: {status.state}")


@worker_init.connect
def note_stops(**_: Any) -> None:
    user_task_stopped.connect(note_stop)


@task_postrun.connect
def note_end(task_id: str, **_: Any) -> None:
    note(task_id, "ended")


@shared_task(base=UserTask, bind=True)
def export(self: UserTask, user_id: int, steps: int = 3) -> int:
    """Count the steps."""
    note(self.request.id, "ran")
    self.status.increment_total_steps(steps - 1)
    for _ in range(steps):
        self.status.increment_completed_steps()
    return steps
