"""Tasks to which the tests of faults do harm; workers import this module."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore, Reject
from celery.signals import before_task_publish
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import transaction

from user_tasks.models import UserTaskArtifact
from user_tasks.tasks import UserTask
from worker_tasks import note

PATIENCE = 120


def gate(name: str) -> Path:
    """Return the file for which the tasks of this gate wait."""
    return Path(settings.MEDIA_ROOT, "gates", name)


def open_gate(name: str) -> None:
    """Let the tasks go on that wait at this gate."""
    gate(name).parent.mkdir(exist_ok=True)
    gate(name).touch()


def pass_gate(name: str) -> None:
    """Return once the gate is open."""
    deadline = time.monotonic() + PATIENCE
    while not gate(name).exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"Nobody has opened the gate {name}.")
        time.sleep(0.02)  # between two looks at the gate


@before_task_publish.connect
def die_before_sending(headers: dict[str, Any], **_: Any) -> None:
    """Kill the process that is about to send the message of a task for which the test has opened a gate."""
    if gate(f"sending {headers.get('id')}").exists():
        os.kill(os.getpid(), signal.SIGKILL)


def walk(task: Any, gates: list[str]) -> int:
    """Take a step before each gate, and one behind the last."""
    task.status.increment_total_steps(len(gates))
    note(task.request.id, "ran")
    for name in gates:
        task.status.increment_completed_steps()
        note(task.request.id, f"at {name}")
        pass_gate(name)
    task.status.increment_completed_steps()
    return len(gates)


@shared_task(base=UserTask, bind=True, ignore_result=False)
def walking(self: Any, user_id: Any, gates: list[str]) -> int:
    """Take a step before each gate, and one behind the last."""
    return walk(self, gates)


@shared_task(base=UserTask, bind=True, acks_late=True)
def acknowledged_late(self: Any, user_id: Any, gates: list[str]) -> int:
    """Be delivered again where the whole worker dies."""
    return walk(self, gates)


@shared_task(base=UserTask, bind=True, acks_late=True, reject_on_worker_lost=True)
def delivered_again(self: Any, user_id: Any, gates: list[str]) -> int:
    """Be delivered again where only the process dies that executes it."""
    return walk(self, gates)


@shared_task(base=UserTask, bind=True)
def busy(self: Any, user_id: Any, gate: str) -> None:
    """Take no step until the gate is open."""
    note(self.request.id, "ran")
    pass_gate(gate)


@shared_task(base=UserTask, bind=True)
def leaving(self: Any, user_id: Any, how: str) -> None:
    """End without a result, in one of Celery's ways."""
    leave(self, user_id, how)


@shared_task(base=UserTask, bind=True, acks_late=True)
def leaving_late(self: Any, user_id: Any, how: str) -> None:
    """Do so with a message that may be given back."""
    leave(self, user_id, how)


def leave(self: Any, user_id: Any, how: str) -> None:
    note(self.request.id, "ran")
    if how == "ignore":
        raise Ignore
    if how == "replace":
        raise self.replace(walking.si(user_id, []))
    if how == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    if how == "requeue" and note_once(self.request.id):
        raise Reject("later", requeue=True)
    if how == "reject":
        raise Reject("never")


def note_once(task_id: str) -> bool:
    """Tell whether this is the first execution of a task."""
    first = gate(task_id)
    if first.exists():
        return False
    open_gate(task_id)
    return True


@shared_task(base=UserTask, bind=True)
def storing(self: Any, user_id: Any, size: int) -> None:
    """Store a file of this many bytes."""
    artifact = UserTaskArtifact(status=self.status, name="Output")
    artifact.file.save("output.txt", ContentFile(b"x" * size))


@shared_task(bind=True, ignore_result=False)
def ordinary(self: Any, *_results: Any) -> None:
    """Be no task of a user."""
    note(self.request.id, "ran")


@shared_task(base=UserTask, bind=True, ignore_result=False)
def publishing(self: Any, user_id: Any, how: str) -> None:
    """Publish inside a transaction."""
    with transaction.atomic():
        if how == "retry" and self.request.retries == 0:
            raise self.retry(countdown=0)
        if how == "replace":
            raise self.replace(walking.si(user_id, []))
        if how == "start":
            walking.delay(user_id, [])
        if how == "roll back":
            walking.delay(user_id, [])
            raise ValueError("rolled back")


@shared_task(base=UserTask, bind=True, acks_late=True, ignore_result=False, max_retries=2)
def unsteady(self: Any, user_id: Any, seed: int) -> None:
    """Take some steps, and fail, or be tried again, now and then."""
    dice = random.Random(seed + self.request.retries)
    steps = dice.randrange(1, 5)
    self.status.increment_total_steps(steps)
    for _ in range(steps):
        self.status.increment_completed_steps()
        time.sleep(dice.random() / 50)  # what a step does; a fault may come in the midst of it
    fate = dice.random()
    if fate < 0.05:
        raise ValueError("bad row")
    if fate < 0.15:
        raise self.retry(countdown=0)
