"""Tasks that the tests of workflows compose; workers import this module too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import current_app, shared_task, signature
from django.conf import settings

from user_tasks.tasks import UserTask
from worker_tasks import note
from workers import wait_for

# What takes the place of a group that replaces a task, and whose result chords wait for.
current_app.tasks["celery.accumulate"].ignore_result = False


class Labeled(UserTask):
    """A task whose row is found by its label."""

    abstract = True
    ignore_result = False

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return str(arguments_dict["label"])

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return 3


def gate(name: str) -> Path:
    """Return the file for which the tasks of this gate wait."""
    return Path(settings.MEDIA_ROOT, "gates", name)


def run_up_to(task: Any, gate_name: str) -> None:
    note(task.request.id, "ran")
    if gate_name:
        wait_for(gate(gate_name).exists, "An open gate")


def fail(task: Any) -> None:
    raise ValueError("bad row")


def fail_and_return(task: Any) -> None:
    task.status.fail("bad row")


def cancel(task: Any) -> None:
    task.status.cancel()
    task.status.increment_completed_steps()


def cancel_and_return(task: Any) -> None:
    task.status.cancel()


def retry(task: Any) -> None:
    if task.request.retries == 0:
        raise task.retry(countdown=0)


def grow(task: Any) -> None:
    task.status.increment_total_steps(4)


FATES = {function.__name__: function for function in (fail, fail_and_return, cancel, cancel_and_return, retry, grow)}
"""What else may happen in a task."""


def live(task: Any, fate: str) -> None:
    if fate:
        FATES[fate](task)


@shared_task(base=Labeled, bind=True)
def leaf(
    self: Any, *_results: Any, user_id: Any, label: str, fate: str = "", gate: str = "", user_task_name: str = ""
) -> str:
    """Take the first of three steps, and what the fate brings."""
    self.status.increment_completed_steps()
    run_up_to(self, gate)
    live(self, fate)
    return label


@shared_task(bind=True, ignore_result=False)
def ordinary(self: Any, *_results: Any, fate: str = "", gate: str = "") -> str:
    """Be no task of a user."""
    run_up_to(self, gate)
    live(self, fate)
    return "ordinary"


@shared_task(base=Labeled, bind=True)
def replacing(self: Any, *_results: Any, user_id: Any, label: str, canvas: Any, gate: str = "") -> Any:
    """Hand the task's place to a canvas."""
    self.status.increment_completed_steps()
    run_up_to(self, gate)
    return self.replace(signature(canvas))


@shared_task(base=Labeled, bind=True)
def adding(self: Any, *_results: Any, user_id: Any, label: str, canvas: Any, gate: str = "") -> str:
    """Add another task to the chord that this one is in."""
    run_up_to(self, gate)
    self.add_to_chord(signature(canvas))
    return label


@shared_task(base=Labeled, bind=True)
def starting(self: Any, *_results: Any, user_id: Any, label: str, canvas: Any, gate: str = "") -> str:
    """Start a workflow of its own."""
    run_up_to(self, gate)
    signature(canvas).delay()
    return label


@shared_task(base=Labeled, bind=True)
def explaining(self: Any, request: Any, exception: Any, traceback: Any, *, user_id: Any, label: str) -> None:
    """Be an error callback of the kind that Celery calls as a function."""
    note(request.id, f"{label}: {exception} ({self.status.state})")
    self.status.increment_completed_steps()
