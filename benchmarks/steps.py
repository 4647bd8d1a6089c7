"""What a step costs, beside the one UPDATE that no step avoids, and beside celery-progress."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from celery_progress.backend import ProgressRecorder
from django.contrib.auth.models import User
from django.db.models import F

from user_tasks.containers import CHORD, GROUP
from user_tasks.models import UserTaskStatus

from . import tasks
from .figures import Figure, Scale, alternate

BUDGET = 3.0
"""How many times the bare UPDATE a step may take; half of that where Django reads in the statement that writes."""


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure a step alone, and below two containers."""
    user = User.objects.create_user("steps")
    alone = _make(user, "alone")
    chord = _make(user, "chord", task_class=CHORD, is_container=True)
    group = _make(user, "group", task_class=GROUP, is_container=True, parent=chord)
    member = _make(user, "member", parent=group)
    own = UserTaskStatus.objects.filter(pk=_make(user, "bare").pk)
    request = tasks.plain
    request.push_request(id="progress")  # type: ignore[call-arg]  # it takes the fields of a request
    progress = ProgressRecorder(request)
    taken = alternate(
        {
            "bare": lambda: own.update(completed_steps=F("completed_steps") + 1),
            "a step": alone.increment_completed_steps,
            "a step in a chord's header": member.increment_completed_steps,
            "celery-progress, on Redis": partial(progress.set_progress, 1, 10),
        },
        scale.repetitions,
    )
    request.pop_request()
    reads_at_once = UserTaskStatus.objects.all().reads_what_it_writes
    budgets = {"a step": 1.5 if reads_at_once else BUDGET, "a step in a chord's header": BUDGET}
    for name in ("a step", "a step in a chord's header", "celery-progress, on Redis"):
        yield Figure(name, taken[name] / taken["bare"], "x", budgets.get(name), "one UPDATE")
    yield Figure("one UPDATE by Django", taken["bare"] * 1000, "ms")


def _make(user: User, task_id: str, **fields: object) -> UserTaskStatus:
    values = {"task_class": "benchmark", "name": "Steps", "state": "In Progress", "total_steps": 1, **fields}
    return UserTaskStatus.objects.create(user=user, task_id=f"steps-{task_id}", **values)
