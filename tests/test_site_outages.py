"""Databases that fail for a moment while a site cancels or deletes: a process that executes no task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from django.db import OperationalError, connection

from test_races import closing
from test_short_outages import Gone
from user_tasks.containers import CHAIN, CHORD, GROUP
from user_tasks.models import UserTaskStatus

pytestmark = pytest.mark.django_db(transaction=True)

MakeStatus = Callable[..., UserTaskStatus]


class GoneAfter(Gone):
    """A connection that is lost with the statement after so many."""

    def __init__(self, statements: int, *, executed: bool) -> None:
        super().__init__("", executed=executed)
        self.statements = statements

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if self.statements:
            self.statements -= 1
            return execute(sql, *arguments)
        return super().__call__(execute, sql, *arguments)


def fresh(status: UserTaskStatus) -> UserTaskStatus:
    return UserTaskStatus.objects.get(pk=status.pk)


def alone(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    return make()


def group(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    held = hold(GROUP)
    for _ in range(2):
        make(parent=fresh(held))
    return held


def last_of_a_group(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    held = hold(GROUP)
    ended = make(parent=fresh(held))
    fresh(ended).cancel()
    return make(parent=fresh(held))


def first_of_a_chain(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    held = hold(CHAIN)
    first = make(parent=fresh(held))
    make(parent=fresh(held), due=None)
    return first


def first_of_a_header(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    chain = hold(CHAIN)
    chord = hold(CHORD, parent=fresh(chain))
    header = hold(GROUP, parent=fresh(chord))
    first = make(parent=fresh(header))
    make(parent=fresh(chord), due=None)
    make(parent=fresh(chain), due=None)
    return first


def chain_with_a_chord(make: MakeStatus, hold: MakeStatus) -> UserTaskStatus:
    return fresh(first_of_a_header(make, hold)).parent.parent.parent  # type: ignore[union-attr,return-value]  # it has three


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "workflow", [alone, group, last_of_a_group, first_of_a_chain, first_of_a_header, chain_with_a_chord]
)
def test_a_cancelation_is_whole_or_refused(
    make_status: MakeStatus,
    make_container: MakeStatus,
    stopped: list[UserTaskStatus],
    workflow: Callable[[MakeStatus, MakeStatus], UserTaskStatus],
    executed: bool,
) -> None:
    refused = []
    for statements in count():
        UserTaskStatus.objects.all().delete()
        target = fresh(workflow(make_status, make_container))
        before = Counter(status.task_id for status in stopped)
        gone = GoneAfter(statements, executed=executed)

        with connection.execute_wrapper(gone):
            try:
                target.cancel()
            except OperationalError:
                refused.append(statements)
        if gone.is_left:
            break
        if statements in refused:
            fresh(target).cancel()

        rows = UserTaskStatus.objects.all()
        assert {(row.state, bool(row.finished)) for row in rows} == {("Canceled", True)}, statements
        told = Counter(status.task_id for status in stopped) - before
        assert not set(told.values()) - {1}, statements
        assert set(told) == {row.task_id for row in rows} - set(before), statements


@pytest.mark.parametrize("workflow", [group, last_of_a_group, first_of_a_chain])
def test_the_end_of_a_container_is_told_once_if_the_answer_to_its_commit_is_lost(
    make_status: MakeStatus,
    make_container: MakeStatus,
    stopped: list[UserTaskStatus],
    lose_commit: Callable[[int], None],
    workflow: Callable[[MakeStatus, MakeStatus], UserTaskStatus],
) -> None:
    target = fresh(workflow(make_status, make_container))

    lose_commit(1)
    target.cancel()

    rows = UserTaskStatus.objects.all()
    assert {(row.state, bool(row.finished)) for row in rows} == {("Canceled", True)}
    assert Counter(status.task_id for status in stopped) == {row.task_id: 1 for row in rows}


@pytest.mark.services
@pytest.mark.postgresql
@pytest.mark.parametrize("number", [1, 2])
def test_a_cancelation_outlives_a_session_that_the_server_ends(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], number: int
) -> None:
    container = make_container(GROUP)
    member = fresh(make_status(parent=container))
    updates = count(1)

    def end_own_session(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith("UPDATE") and next(updates) == number:
            end_session(own_session())
        return execute(sql, *arguments)

    with connection.execute_wrapper(end_own_session):
        member.cancel()

    assert next(updates) > number
    assert [status.pk for status in stopped] == [member.pk, container.pk]
    assert fresh(container).finished


def own_session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def end_session(pid: int) -> None:
    """End another session of this database as its administrator does, from a connection of its own."""

    def end() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    with ThreadPoolExecutor(1) as pool:
        pool.submit(closing, end).result(60)
