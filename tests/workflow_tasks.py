"""Tasks that the workflow tests compose; a worker imports this module too."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from user_tasks.tasks import UserTask


class Labeled(UserTask):
    """A task whose row is found by its label."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return str(arguments_dict["label"])

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        return int(arguments_dict["steps"])


@shared_task(base=Labeled, bind=True)
def leaf(self: Any, *_results: Any, user_id: Any, label: str, steps: int = 2, fail: bool = False, **_kwargs: Any) -> str:
    self.status.increment_completed_steps()
    if fail:
        raise ValueError(f"{label} failed")
    return label


@shared_task
def ordinary(*_results: Any, fail: bool = False) -> str:
    if fail:
        raise ValueError("ordinary failed")
    return "ordinary"
