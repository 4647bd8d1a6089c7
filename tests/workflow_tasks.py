"""Tasks that the workflow tests compose; a worker imports this module too."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group, shared_task

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


@shared_task(base=Labeled, bind=True)
def replacing(self: Any, kind: str, *, user_id: Any, label: str, steps: int = 2, fail: bool = False) -> Any:
    """Hand the task's place to another one, or to a canvas."""
    self.status.increment_completed_steps()

    def step(label: str, *, fails: bool = False) -> Any:
        return leaf.si(user_id=user_id, label=label, fail=fails)

    canvases = {
        "single": lambda: step("r1", fails=fail),
        "ordinary": lambda: ordinary.si(fail=fail),
        "chain": lambda: chain(step("r1", fails=fail), step("r2")),
        "group": lambda: group(step("r1", fails=fail), step("r2")),
        "chord": lambda: chord([step("r1", fails=fail), step("r2")], step("r3")),
        "chaingroup": lambda: chain(step("r1", fails=fail), group(step("r2"), step("r3"))),
    }
    return self.replace(canvases[kind]())


@shared_task(base=Labeled, bind=True)
def adding(self: Any, *, user_id: Any, label: str, steps: int = 2) -> str:
    """Add a task to the chord that this one is in."""
    self.add_to_chord(leaf.si(user_id=user_id, label="added"))
    return label


@shared_task(base=Labeled, bind=True)
def starting(self: Any, *, user_id: Any, label: str, steps: int = 2) -> str:
    """Start a workflow that is a tree of its own."""
    chain(leaf.si(user_id=user_id, label="own1"), leaf.si(user_id=user_id, label="own2")).delay()
    return label
