"""Tasks that do what a test tells them, when it tells them: it moves them on by writing into a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings
from django.core.files.base import ContentFile

from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import UserTask

PATIENCE = 120
"""Seconds after which a task that is told nothing gives up."""


def orders(name: str) -> Path:
    """Return the file of what a task is to do, one order a line."""
    folder = Path(settings.MEDIA_ROOT, "orders")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def tell(name: str, *lines: str) -> None:
    """Order a task of this name to do something."""
    with orders(name).open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


class GuidedTask(UserTask):
    """Is called by the name of its orders."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return str(arguments_dict["name"])

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return int(arguments_dict["steps"])


@shared_task(base=GuidedTask, bind=True, ignore_result=False)
def guided(self: UserTask, user_id: Any, name: str, steps: int = 4, user_task_name: str = "") -> None:
    """Follow orders: ``step``, ``state X``, ``text X``, ``file X``, ``fail X``, ``return``."""
    done = 0
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = orders(name).read_text(encoding="utf-8").splitlines() if orders(name).exists() else []
        for line in lines[done:]:
            if line == "return":
                return
            follow(self, *line.partition(" ")[::2])
        done = len(lines)
        if self.status.state == UserTaskStatus.CANCELED:
            raise TaskCanceledException(f"{name} has been canceled.")
        time.sleep(0.02)  # between two looks at the orders
    raise TimeoutError(f"{name} was not told to return.")


def follow(task: UserTask, order: str, text: str) -> None:
    """Do one thing."""
    if order == "step":
        task.status.increment_completed_steps()
    elif order == "state":
        task.status.set_state(text)
    elif order == "text":
        UserTaskArtifact.objects.create(status=task.status, text=text)
    elif order == "file":
        artifact = UserTaskArtifact(status=task.status, name="Table")
        artifact.file.save(text, ContentFile(b"1,2,3\n"))
    elif order == "fail":
        raise ValueError(text)
