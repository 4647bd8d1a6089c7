from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group, shared_task
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from user_tasks.models import UserTaskStatus
from user_tasks.recording import status_of
from user_tasks.tasks import UserTask

WORK = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""How statements begin that are counted: what begins and ends transactions is not."""


@shared_task(base=UserTask, bind=True)
def idle(self: UserTask, *results: Any, user_id: int) -> None: ...


Call = Callable[[], object]


def alone(pk: int) -> list[str]:
    return [idle.delay(user_id=pk).id]


def members_of_group(pk: int, size: int = 5) -> list[str]:
    result: Any = group(idle.s(user_id=pk) for _ in range(size)).delay()
    return [member.id for member in result.results]


def headers_of_chord(pk: int) -> list[str]:
    result: Any = chord([idle.s(user_id=pk) for _ in range(5)], idle.s(user_id=pk)).delay()
    return [member.id for member in result.parent.results]


def links_of_chain(pk: int, size: int = 5) -> list[str]:
    result: Any = chain(*(idle.s(user_id=pk) for _ in range(size))).delay()
    ids = [result.id]
    while result.parent is not None:
        result = result.parent
        ids.append(result.id)
    return ids[::-1]


def executed(pk: int, task_ids: list[str]) -> None:
    """Execute published tasks as a worker does."""
    for task_id in task_ids:
        idle.apply(kwargs={"user_id": pk}, task_id=task_id)


def publishing(canvas: Callable[[int], list[str]]) -> Callable[[int], Call]:
    return lambda pk: lambda: canvas(pk)


def running(canvas: Callable[[int], list[str]], position: int) -> Callable[[int], Call]:
    def prepare(pk: int) -> Call:
        task_ids = canvas(pk)
        executed(pk, task_ids[:position])
        return lambda: executed(pk, [task_ids[position]])

    return prepare


def stepping(canvas: Callable[[int], list[str]], held: bool) -> Callable[[int], Call]:
    def prepare(pk: int) -> Call:
        task_id = canvas(pk)[0]
        status = held_status(task_id)
        status.start()
        if held:
            return status.increment_completed_steps
        return lambda: held_status(task_id).increment_completed_steps()

    return prepare


def held_status(task_id: str) -> UserTaskStatus:
    status = status_of(task_id)
    assert status is not None
    return status


BUDGETS: dict[str, tuple[Callable[[int], Call], int]] = {
    "publish a task": (publishing(alone), 2),
    "publish a group of 5": (publishing(members_of_group), 6),
    "publish a group of 50": (publishing(lambda pk: members_of_group(pk, 50)), 6),
    "publish a chain of 5": (publishing(links_of_chain), 5),
    "publish a chain of 50": (publishing(lambda pk: links_of_chain(pk, 50)), 5),
    "publish a chord of 5": (publishing(headers_of_chord), 7),
    "run a task": (running(alone, 0), 4),
    "run the first of a group": (running(members_of_group, 0), 7),
    "run one inside a group": (running(members_of_group, 2), 6),
    "run the last of a group": (running(members_of_group, 4), 11),
    "run one inside a chord's headers": (running(headers_of_chord, 2), 7),
    "run one inside a chain": (running(links_of_chain, 2), 6),
    "a step": (stepping(alone, held=True), 2),
    "a step in a group": (stepping(members_of_group, held=True), 2),
    "a step in a chord's headers": (stepping(headers_of_chord, held=True), 2),
    "a step, the status read for it": (stepping(alone, held=False), 3),
    "a step in a chord's headers, the status read for it": (stepping(headers_of_chord, held=False), 3),
}
"""Statements that each operation may take at most, however many siblings there are."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("operation", BUDGETS)
def test_operations_keep_to_their_budget_of_queries(owner: User, operation: str) -> None:
    prepare, budget = BUDGETS[operation]
    call = prepare(owner.pk)

    with CaptureQueriesContext(connection) as queries:
        call()

    statements = [query["sql"] for query in queries if query["sql"].startswith(WORK)]
    assert len(statements) <= budget, "\n".join(statements)
