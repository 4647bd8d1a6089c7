from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from user_tasks import paginators
from user_tasks.models import UserTaskStatus
from user_tasks.paginators import CappedPaginator, InTurn, UncountedPaginator
from user_tasks.querysets import UserTaskStatusQuerySet

MakeStatus = Callable[..., UserTaskStatus]


@pytest.fixture
def in_turn(make_status: MakeStatus) -> InTurn:
    """Five tasks that run, then seven that have finished."""
    for number in range(5):
        make_status(name=f"running {number}", state="In Progress")
    for number in range(7):
        make_status(name=f"finished {number}", state="Succeeded", finished=timezone.now())
    statuses = UserTaskStatus.objects.order_by("pk")
    return InTurn(statuses.unfinished(), statuses.finished())


@pytest.mark.parametrize("size", range(1, 14))
def test_pages_of_two_queries_hold_each_row_once_and_in_order(in_turn: InTurn, size: int) -> None:
    expected = [f"running {number}" for number in range(5)] + [f"finished {number}" for number in range(7)]

    found: list[str] = []
    for start in range(0, len(expected), size):
        found += [status.name for status in in_turn[start : start + size]]

    assert found == expected
    assert in_turn[len(expected) : len(expected) + size] == []


def test_what_finishes_while_a_page_is_read_stands_there_once(in_turn: InTurn) -> None:
    class Finishing:
        """Running tasks, of which one finishes as soon as they have been read."""

        def __getitem__(self, places: slice) -> list[UserTaskStatus]:
            rows = list(UserTaskStatus.objects.order_by("pk").unfinished()[places])
            rows[0].succeed()
            return rows

    first: Any = Finishing()
    names = [status.name for status in InTurn(first, UserTaskStatus.objects.order_by("pk").finished())[0:20]]

    assert len(names) == len(set(names)) == 12


def test_a_page_is_read_where_another_task_begins_before_those_that_run_are_counted(in_turn: InTurn) -> None:
    class Growing:
        """Running tasks, of which one more begins as soon as they have been read."""

        def __getitem__(self, _places: slice) -> list[UserTaskStatus]:
            return []

        def count(self) -> int:
            return 6

    first: Any = Growing()
    finished = UserTaskStatus.objects.order_by("pk").finished()

    assert [status.name for status in InTurn(first, finished)[5:7]] == ["finished 0"]
    assert InTurn(first, finished)[5:6] == []


@pytest.mark.parametrize("deep", [0, 5, 1000])
def test_pages_far_back_are_the_same_as_others(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch, deep: int
) -> None:
    monkeypatch.setattr(paginators, "DEEP", deep)
    made = [make_status() for _ in range(9)]
    statuses = UserTaskStatus.objects.order_by("-pk")

    with CaptureQueriesContext(connection) as queries:
        pages = [list(UncountedPaginator(statuses, 2).page(number).object_list) for number in range(1, 6)]

    assert [status for page in pages for status in page] == made[::-1]
    assert len(queries) == 5 + sum(first >= deep for first in range(0, 10, 2))


def test_a_page_far_back_of_which_a_row_goes_is_not_taken_for_the_last(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paginators, "DEEP", 0)
    made = [make_status() for _ in range(6)]

    class Shrinking(UserTaskStatusQuerySet):
        def filter(self, *args: Any, **kwargs: Any) -> Any:
            UserTaskStatus.objects.filter(pk=made[3].pk).delete()
            return super().filter(*args, **kwargs)

    page = UncountedPaginator(Shrinking(UserTaskStatus).order_by("pk"), 2).page(2)

    assert list(page.object_list) == [made[2]]
    assert page.has_next()


@pytest.mark.parametrize(("most", "counted", "capped"), [(3, 3, True), (4, 4, False), (5, 4, False)])
def test_rows_are_counted_up_to_a_limit(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch, most: int, counted: int, capped: bool
) -> None:
    monkeypatch.setattr(CappedPaginator, "most", most)
    for _ in range(4):
        make_status()

    paginator = CappedPaginator(UserTaskStatus.objects.order_by("pk"), 2)

    assert (paginator.count, paginator.is_capped) == (counted, capped)
