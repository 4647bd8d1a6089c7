"""Tasks that the tests of workflows compose; workers import this module too."""

from __future__ import annotations

from typing import Any

from celery import current_app, shared_task, signature

from fault_tasks import pass_gate
from user_tasks.tasks import UserTask
from worker_tasks import note

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


def run_up_to(task: Any, gate: str) -> None:
    note(task.request.id, "ran")
    if gate:
        pass_gate(gate)


def fail(task: Any) -> None:
    raise ValueError("bad row")


def fail_and_return(task: Any) -> bool:
    task.status.fail("bad row")
    return True


def cancel(task: Any) -> None:
    task.status.cancel()


def cancel_and_return(task: Any) -> bool:
    task.status.cancel()
    return True


def retry(task: Any) -> None:
    if task.request.retries == 0:
        raise task.retry(countdown=0)


def grow(task: Any) -> None:
    task.status.increment_total_steps(4)


FATES = {function.__name__: function for function in (fail, fail_and_return, cancel, cancel_and_return, retry, grow)}
"""What else may happen in a task; what returns True ends it."""


@shared_task(base=Labeled, bind=True)
def leaf(
    self: Any, *_results: Any, user_id: Any, label: str, fate: str = "", gate: str = "", user_task_name: str = ""
) -> str:
    """Take two of three steps, with what the fate brings between them."""
    self.status.increment_completed_steps()
    run_up_to(self, gate)
    if not (fate and FATES[fate](self)):
        self.status.increment_completed_steps()
    return label


@shared_task(bind=True, ignore_result=False)
def ordinary(self: Any, *_results: Any, fate: str = "", gate: str = "") -> str:
    """Be no task of a user."""
    run_up_to(self, gate)
    if fate:
        FATES[fate](self)
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
def called(self: Any, user_id: Any, label: str) -> str:
    """Be called as a function for each of many items."""
    status = self.status
    status.start()
    status.increment_completed_steps()
    note(label, f"called as {status.name}, {status.state}")
    return label


@shared_task(base=Labeled, bind=True)
def called_with_one(self: Any, label: str, user_id: Any = None) -> str:
    """Be called as a function, with one argument."""
    self.status.increment_completed_steps()
    note(label, f"called as {self.status.name}, {self.status.state}")
    return label


@shared_task(base=Labeled, bind=True)
def explaining(self: Any, request: Any, exception: Any, traceback: Any, *, user_id: Any, label: str) -> None:
    """Be an error callback of the kind that Celery calls as a function."""
    note(request.id, f"{label}: {exception} ({self.status.state})")
    self.status.increment_completed_steps()
