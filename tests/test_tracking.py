from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery import current_app, shared_task
from celery.app.trace import trace_task
from celery.exceptions import Reject, Retry
from celery.signals import after_task_publish
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils.translation import gettext_lazy, override
from testfixtures import LogCapture

from documents import ROOT, Block, code_blocks, executed
from user_tasks import recording, tracking, transitions
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus
from user_tasks.tasks import UserTask
from workers import wait_for

if TYPE_CHECKING:
    from pytest_django import Settings

MakeStatus = Callable[..., UserTaskStatus]


@pytest.fixture
def write_always(settings: Settings) -> None:
    """Let tracked loops write with every item."""
    settings.USER_TASKS_TRACK_SECONDS = 0


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that moves the clock of tracked loops, which stands still otherwise, by some seconds."""
    now = [1000.0]
    monkeypatch.setattr(tracking, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def stored(status: UserTaskStatus) -> tuple[int, int]:
    row = UserTaskStatus.objects.get(pk=status.pk)
    return row.completed_steps, row.total_steps


def stored_state(status: UserTaskStatus) -> str:
    return UserTaskStatus.objects.get(pk=status.pk).state


def consume(rows: Iterable[object]) -> None:
    for _row in rows:
        pass


def unsized(length: int) -> Iterator[int]:
    yield from range(length)


@pytest.mark.parametrize(
    ("announced", "loops", "shown"),
    [
        (1, [5], (5, 5)),
        (1, [0], (0, 1)),
        (1, [1], (1, 1)),
        (0, [5], (5, 5)),
        (8, [5], (5, 8)),
        (8, [5, 3], (8, 8)),
        (8, [5, 5], (10, 10)),
        (1, [5, 5, 5], (15, 15)),
    ],
)
def test_loops_take_the_steps_that_are_there_and_add_those_that_are_missing(
    make_status: MakeStatus, announced: int, loops: list[int], shown: tuple[int, int]
) -> None:
    status = make_status(total_steps=announced)

    for length in loops:
        assert list(status.track(range(length))) == list(range(length))

    assert (status.completed_steps, status.total_steps) == stored(status) == shown


@pytest.mark.parametrize(
    ("announced", "total", "shown"),
    [(1, None, (5, 5)), (9, None, (5, 9)), (1, 5, (5, 5)), (1, 7, (5, 7)), (1, 3, (5, 5))],
)
def test_where_the_length_is_not_known_steps_are_added_as_they_come(
    make_status: MakeStatus, announced: int, total: int | None, shown: tuple[int, int]
) -> None:
    status = make_status(total_steps=announced)

    consume(status.track(unsized(5), total=total))

    assert stored(status) == shown


def test_the_total_is_shown_from_the_first_item_on(make_status: MakeStatus) -> None:
    status = make_status()

    for row in status.track(range(3)):
        if row == 0:
            assert (status.completed_steps, status.total_steps) == stored(status) == (0, 3)


def test_nothing_is_written_between_two_intervals(make_status: MakeStatus, pass_time: Callable[[float], None]) -> None:
    status = make_status()
    seen = []

    for _row in status.track(range(7)):
        seen.append(stored(status)[0])
        pass_time(0.2)

    assert seen == [0, 0, 0, 3, 3, 3, 6]
    assert stored(status) == (7, 7)


def test_the_number_of_writes_depends_on_the_time_alone(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status()

    with CaptureQueriesContext(connection) as queries:
        for _table in status.track(range(10)):
            for _row in status.track(range(100)):
                pass_time(0.01)

    updates = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert len(updates) <= 10 * 2 + 2
    assert stored(status) == (1010, 1010)


def short_loops(status: UserTaskStatus, label: str | None) -> None:
    for _ in range(100):
        consume(status.track(range(3), label=label))


def short_stages(status: UserTaskStatus, _label: str | None) -> None:
    for _ in range(100):
        with status.steps(3):
            pass


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("announced", [1, 300])
@pytest.mark.parametrize(
    ("work", "label"),
    [(short_loops, None), (short_loops, "Reading"), (short_stages, None)],
    ids=["loops", "with a label", "stages"],
)
def test_short_loops_in_a_row_are_written_at_their_end_alone(
    make_status: MakeStatus, pass_time: Callable[[float], None], announced: int, work: Any, label: str | None
) -> None:
    status = make_status(state="In Progress", total_steps=announced)

    with CaptureQueriesContext(connection) as queries:
        work(status, label)

    updates = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    shown = tracking.AHEAD
    assert len(updates) <= 100 + shown + 2 * shown * (label is not None)
    selects = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert len(selects) <= 1 + 100 + shown
    assert stored(status) == (300, 300)


def test_a_few_short_loops_are_shown_from_their_first_item_on(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress")

    for number in range(3):
        for _row in status.track("a", label=f"Part {number}"):
            assert (stored(status), stored_state(status)) == ((number, number + 1), f"Part {number}")
        assert (stored(status), stored_state(status)) == ((number + 1, number + 1), "In Progress")


def test_after_many_short_loops_a_slow_one_is_shown_within_the_interval(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress", total_steps=0)
    short_loops(status, None)
    seen = []

    for _row in status.track("abc", label="Calculating"):
        seen.append((stored(status), stored_state(status)))
        pass_time(0.5)

    assert seen == [((300, 300), "In Progress"), ((301, 303), "Calculating"), ((302, 303), "Calculating")]
    pass_time(10)
    for _row in status.track("abc"):
        assert stored(status)[1] == 306


def test_the_row_is_true_after_each_of_many_short_loops(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(total_steps=0)

    for number in range(1, 20):
        consume(status.track("ab"))
        assert (status.completed_steps, status.total_steps) == stored(status) == (2 * number, 2 * number)


def test_a_cancelation_is_seen_by_the_next_of_many_short_loops(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress")
    short_loops(status, None)
    UserTaskStatus.objects.get(pk=status.pk).cancel()

    with pytest.raises(TaskCanceledException):
        consume(status.track(range(3)))


def test_a_cancelation_that_a_broken_loop_could_not_tell_is_told_before_the_next_begins(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress", total_steps=9)
    for row in status.track(range(3)):
        if row == 2:
            UserTaskStatus.objects.get(pk=status.pk).cancel()
            break

    with pytest.raises(TaskCanceledException):
        next(status.track(range(3)))
    assert stored(status) == (2, 9)


def test_what_is_counted_by_hand_between_loops_is_known_to_the_next(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(total_steps=2)
    consume(status.track(range(2)))
    other = UserTaskStatus.objects.get(pk=status.pk)
    other.progress_tracker = status.progress_tracker
    other.increment_total_steps(3)

    consume(status.track(range(3)))

    assert stored(status) == (5, 5)


@pytest.mark.parametrize("announced", [1, 44, 50])
@pytest.mark.parametrize("rows", [range(10), unsized], ids=["sized", "unsized"])
@pytest.mark.parametrize("tables", [range(4), unsized], ids=["sized", "unsized"])
def test_nested_loops_all_count(make_status: MakeStatus, announced: int, rows: Any, tables: Any) -> None:
    status = make_status(total_steps=announced)

    for _table in status.track(tables(4) if callable(tables) else tables):
        consume(status.track(rows(10) if callable(rows) else rows))

    assert stored(status) == (44, max(announced, 44))


def test_a_loop_that_is_left_early_has_counted_what_was_done(make_status: MakeStatus) -> None:
    status = make_status()

    for row in status.track(range(10)):
        if row == 4:
            break

    assert stored(status) == (4, 10)
    consume(status.track(range(8)))
    assert stored(status) == (12, 12)


def test_an_error_in_the_body_leaves_what_was_done(make_status: MakeStatus) -> None:
    status = make_status()

    def work() -> None:
        for row in status.track(range(10)):
            if row == 4:
                raise ValueError(row)

    with pytest.raises(ValueError, match="4"):
        work()
    gc.collect()
    assert stored(status) == (4, 10)


def test_an_error_in_the_source_leaves_what_was_done(make_status: MakeStatus) -> None:
    status = make_status()

    def rows() -> Iterator[int]:
        yield from range(4)
        raise ValueError("The file ends here.")

    with pytest.raises(ValueError, match="ends here"):
        consume(status.track(rows(), total=10))
    assert stored(status) == (4, 10)


def test_a_broken_transaction_keeps_its_own_error(make_status: MakeStatus) -> None:
    status = make_status()

    def work() -> None:
        with transaction.atomic():
            for row in status.track(range(10)):
                if row == 4:
                    User.objects.create(pk=status.user_id)

    with LogCapture() as log, pytest.raises(DatabaseError, match=r"(?i)unique|duplicate"):
        work()
    assert f"The last steps of task {status.task_id} could not be written" in str(log)


@pytest.mark.usefixtures("write_always")
def test_a_canceled_task_is_stopped_by_the_next_item(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress")
    done = []

    def work() -> None:
        for row in status.track(range(10)):
            if row == 3:
                UserTaskStatus.objects.get(pk=status.pk).cancel()
            done.append(row)

    with pytest.raises(TaskCanceledException):
        work()
    assert done == [0, 1, 2, 3]
    assert stored(status) == (4, 10)


def test_a_cancelation_is_seen_within_the_interval_when_items_become_slow(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress")
    slow = []

    def work() -> None:
        for row in status.track(range(100_000)):
            if row == 50_000:
                UserTaskStatus.objects.get(pk=status.pk).cancel()
            if row > 50_000:
                slow.append(row)
                pass_time(0.3)

    with pytest.raises(TaskCanceledException):
        work()
    assert slow == [50_001, 50_002]


def test_a_cancelation_is_seen_at_the_end_at_the_latest(
    make_status: MakeStatus, pass_time: Callable[[float], None]
) -> None:
    status = make_status(state="In Progress")

    def work() -> None:
        for _row in status.track(range(3)):
            UserTaskStatus.objects.get(pk=status.pk).cancel()

    with pytest.raises(TaskCanceledException):
        work()
    assert stored(status) == (3, 3)


@pytest.mark.usefixtures("write_always")
def test_a_cancelation_that_a_broken_inner_loop_could_not_tell_is_told_by_the_outer_one(
    make_status: MakeStatus,
) -> None:
    status = make_status(state="In Progress")
    tables = []

    def work() -> None:
        for table in status.track("AB"):
            tables.append(table)
            for _row in status.track(range(3)):
                UserTaskStatus.objects.get(pk=status.pk).cancel()
                break

    with pytest.raises(TaskCanceledException):
        work()
    assert tables == ["A"]


def test_a_stage_that_does_not_begin_is_not_open(make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    status = make_status(state="In Progress")
    step = transitions.step

    def cancel_before(*args: Any, **kwargs: Any) -> None:
        UserTaskStatus.objects.get(pk=status.pk).cancel()
        step(*args, **kwargs)

    monkeypatch.setattr(transitions, "step", cancel_before)
    with pytest.raises(TaskCanceledException), status.steps(5):
        pass

    assert status.progress_tracker is not None
    assert status.progress_tracker.open == []


def test_no_loop_begins_in_a_canceled_or_deleted_task(make_status: MakeStatus) -> None:
    canceled, deleted = make_status(), make_status()
    canceled.cancel()
    UserTaskStatus.objects.get(pk=deleted.pk).delete()

    for status in (canceled, deleted):
        with pytest.raises(TaskCanceledException):
            next(status.track([1]))


@pytest.mark.usefixtures("write_always")
def test_a_label_is_shown_as_the_state_while_the_loop_runs(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress")

    def states(rows: Iterable[object]) -> list[str]:
        return [stored_state(status) for _row in rows]

    assert states(status.track("ab", label="Reading")) == ["Reading", "Reading"]
    assert states(status.track("ab", label=lambda row: f"Row {row}")) == ["Row a", "Row b"]
    assert status.state == stored_state(status) == "In Progress"


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_loop_that_is_left_early_takes_its_label_back(make_status: MakeStatus, error: type[Exception] | None) -> None:
    status = make_status(state="In Progress")

    with suppress(ValueError):
        for _row in status.track("ab", label="Reading"):
            assert stored_state(status) == "Reading"
            if error is not None:
                raise error
            break

    assert stored_state(status) == "In Progress"


@pytest.mark.usefixtures("write_always")
def test_the_innermost_label_is_shown(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress")
    seen = []

    for _table in status.track("AB", label=lambda table: f"Table {table}"):
        seen.append(stored_state(status))
        seen.extend(stored_state(status) for _row in status.track([1], label=lambda row: f"Row {row}"))
        seen.extend(stored_state(status) for _row in status.track([1]))

    assert seen == ["Table A", "Row 1", "Table A", "Table B", "Row 1", "Table B"]


@pytest.mark.parametrize("label", [*UserTaskStatus.STATE_TRANSLATIONS, "", None])
def test_a_label_that_means_something_else_is_not_shown(make_status: MakeStatus, label: str | None) -> None:
    status = make_status(state="Working")

    for _row in status.track([1, 2], label=lambda _row: label):
        assert stored_state(status) == "Working"


def test_a_label_may_be_a_lazy_text_and_of_any_length(make_status: MakeStatus) -> None:
    status = make_status()

    with override("de"):
        for _row in status.track([1], label=gettext_lazy("January")):
            assert stored_state(status) == "Januar"
    for _row in status.track([1], label="x" * 200):
        assert stored_state(status) == "x" * 127 + "…"


@pytest.mark.usefixtures("write_always")
def test_a_state_that_the_body_enters_stays(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress")

    for _row in status.track([1], label="Reading"):
        status.set_state("Compressing")

    assert stored_state(status) == "Compressing"


def test_steps_and_label_are_shown_by_the_containers(make_status: MakeStatus, make_container: MakeStatus) -> None:
    chain = make_container("celery.chain")
    status = make_status(parent=chain)

    for _row in status.track([1, 2], label="Reading"):
        assert (stored(chain), stored_state(chain)) == ((0, 2), "Reading")
    assert stored(chain) == (2, 2)


def test_a_loop_on_a_container_adds_to_the_steps_of_its_members(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    group = make_container("celery.group")
    make_status(parent=group, total_steps=3)
    group.refresh_from_db()

    consume(group.track(range(2)))

    assert stored(group) == (2, 5)


def test_a_negative_number_of_steps_is_refused_at_once(make_status: MakeStatus) -> None:
    status = make_status()
    calls: list[Callable[[], object]] = [
        lambda: status.track([], total=-1),
        lambda: status.atrack([], total=-1),
        lambda: status.steps(-1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="-1 steps"):
            call()


@pytest.mark.parametrize(("announced", "total"), [(1, 10), (10, 10), (12, 12)])
def test_a_stage_is_done_at_its_end(make_status: MakeStatus, announced: int, total: int) -> None:
    status = make_status(total_steps=announced)

    with status.steps(3):
        assert stored(status) == (0, max(announced, 3))
    assert stored(status) == (3, max(announced, 3))
    with status.steps(7):
        status.increment_completed_steps(2)
        assert stored(status)[0] == 5
    assert stored(status) == (10, total)


def test_a_stage_that_fails_is_not_done(make_status: MakeStatus) -> None:
    status = make_status()

    with suppress(ValueError), status.steps(10):
        status.increment_completed_steps(2)
        raise ValueError
    assert stored(status) == (2, 10)


@pytest.mark.usefixtures("write_always")
def test_a_loop_in_a_stage_moves_it_in_proportion(make_status: MakeStatus) -> None:
    status = make_status(total_steps=100)
    seen: list[int] = []

    with status.steps(20):
        seen.extend(stored(status)[0] for row in status.track(range(1000)) if row % 250 == 0)
    with status.steps(80):
        for _half in status.track(range(2)):
            seen.append(stored(status)[0])
            consume(status.track(range(100)))

    assert seen == [0, 5, 10, 15, 20, 60]
    assert stored(status) == (100, 100)


@pytest.mark.usefixtures("write_always")
def test_a_loop_of_unknown_length_in_a_stage_moves_nothing(make_status: MakeStatus) -> None:
    status = make_status(total_steps=10)

    with status.steps(10):
        consume(status.track(unsized(50)))
        assert stored(status) == (0, 10)
    assert stored(status) == (10, 10)


@pytest.mark.parametrize(("inner", "shown"), [([2, 3], 10), ([6, 6], 12)])
def test_stages_in_a_stage_share_its_steps(make_status: MakeStatus, inner: list[int], shown: int) -> None:
    status = make_status()

    with status.steps(10):
        for worth in inner:
            with status.steps(worth):
                consume(status.track(range(7)))

    assert stored(status) == (shown, shown)


def test_steps_counted_by_hand_in_an_inner_stage_belong_to_the_outer_one_too(make_status: MakeStatus) -> None:
    status = make_status()

    with status.steps(10), status.steps(4):
        status.increment_completed_steps(3)
        assert stored(status) == (3, 10)
    assert stored(status) == (10, 10)


def test_a_stage_in_a_loop_comes_on_top(make_status: MakeStatus) -> None:
    status = make_status()

    for _row in status.track(range(3)):
        with status.steps(2):
            pass

    assert stored(status) == (9, 9)


def test_steps_counted_by_hand_leave_less_of_a_stage_to_its_loop(make_status: MakeStatus) -> None:
    status = make_status()

    with status.steps(4):
        for _row in status.track(range(2)):
            status.increment_completed_steps(2)

    assert stored(status) == (4, 4)


def test_what_is_counted_by_hand_through_another_instance_is_known_to_the_loops(make_status: MakeStatus) -> None:
    status = make_status(total_steps=3)
    other = UserTaskStatus.objects.get(pk=status.pk)

    for _row in status.track([1]):
        other.progress_tracker = status.progress_tracker
        other.increment_total_steps(2)
        other.increment_completed_steps(4)
        consume(status.track(range(2)))

    assert stored(status) == (7, 7)


@shared_task(base=UserTask, bind=True)
def tracking_task(self: UserTask, *, user_id: int) -> list[tuple[int, int]]:
    seen = []
    for _table in self.track(range(2), label="Reading"):
        for _row in self.track(range(3)):
            status = self.status
            seen.append((status.completed_steps, status.total_steps))
    with self.steps(5):
        self.status.increment_completed_steps()
    return seen


def test_a_task_tracks_its_own_status(owner: User) -> None:
    result = tracking_task.apply(kwargs={"user_id": owner.pk})

    status = UserTaskStatus.objects.get(task_id=result.id)
    assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 13, 13)


@pytest.mark.usefixtures("write_always")
def test_nested_loops_of_a_task_know_each_other_although_it_reads_its_status_anew(owner: User) -> None:
    result = tracking_task.apply(kwargs={"user_id": owner.pk})

    assert result.get() == [(0, 5), (1, 5), (2, 5), (4, 8), (5, 8), (6, 8)]


def test_a_task_that_is_called_as_a_function_tracks_nothing(owner: User) -> None:
    assert tracking_task(user_id=owner.pk) == [(0, 1)] * 6
    assert not UserTaskStatus.objects.exists()


kept: list[Any] = []
"""What tasks keep of their loops."""


@shared_task(base=UserTask, bind=True)
def tracking_task_that_retries(self: UserTask, *, user_id: int) -> None:
    rows = self.track(range(4))
    kept.append(rows)
    for row in rows:
        if row == 2 and not self.request.retries:
            raise self.retry(countdown=0)


def test_a_loop_begins_again_with_a_retry(owner: User) -> None:
    with suppress(Retry):
        tracking_task_that_retries.apply(kwargs={"user_id": owner.pk})
    while kept:
        kept.pop().close()

    status = UserTaskStatus.objects.get()
    assert (status.state, status.attempts, status.completed_steps, status.total_steps) == ("Succeeded", 2, 4, 4)


def executed_by_a_worker(task: Any, owner: User, **arguments: Any) -> UserTaskStatus:
    """Execute a task as a worker does, in this process; return its status."""
    task_id = str(uuid4())
    arguments["user_id"] = owner.pk
    task.apply_async(kwargs=arguments, task_id=task_id)
    request = {"is_eager": False, "id": task_id, "task": task.name, "group": None}
    trace_task(task, task_id, (), arguments, request, app=current_app)
    return UserTaskStatus.objects.get(task_id=task_id)


@shared_task(base=UserTask, bind=True)
def handing_over(self: UserTask, *, user_id: int, is_replaced: bool) -> None:
    for row in self.track(range(10), label="Packing"):
        if row == 5:
            if is_replaced:
                self.replace(tracking_task.si(user_id=user_id))
            raise self.retry(countdown=0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_replaced", [False, True], ids=["retry", "replacement"])
def test_an_execution_writes_nothing_once_the_message_of_the_next_one_has_left(
    owner: User, *, is_replaced: bool
) -> None:
    following: list[Iterator[int]] = []

    def begin_at_once(headers: dict[str, Any], **_others: Any) -> None:
        if UserTaskStatus.objects.get(task_id=headers["id"]).started:
            status = recording.started(headers["id"])
            assert status is not None
            following.append(status.track(range(10), label="Packing"))
            next(following[0])

    after_task_publish.connect(begin_at_once)
    try:
        status = executed_by_a_worker(handing_over, owner, is_replaced=is_replaced)
    finally:
        after_task_publish.disconnect(begin_at_once)

    assert (status.state, status.completed_steps, status.total_steps) == ("Packing", 0, 10)
    consume(following[0])
    assert stored(status) == (10, 10)


@shared_task(base=UserTask, bind=True)
def keeping(self: UserTask, *, user_id: int) -> None:
    rows = self.track(range(10), label="Packing")
    stage = self.steps(10)
    stage.__enter__()
    next(rows), next(rows)
    kept.extend((rows, stage))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("go_on", [lambda rows: rows.close(), consume], ids=["dropped", "consumed"])
def test_what_a_task_keeps_of_its_loops_writes_nothing_after_its_end(owner: User, go_on: Callable[[Any], None]) -> None:
    status = executed_by_a_worker(keeping, owner)
    with CaptureQueriesContext(connection) as queries:
        stage, rows = kept.pop(), kept.pop()
        go_on(rows)
        stage.__exit__(None, None, None)

    assert len(queries) == 0
    assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 10, 10)


@shared_task(base=UserTask, bind=True)
def failing_in_a_loop(self: UserTask, *, user_id: int, is_rejected: bool) -> None:
    rows = self.track(range(10), label="Packing")
    for row in rows:
        if row == 5:
            raise Reject(str(row)) if is_rejected else ValueError(row)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_rejected", [False, True])
def test_the_end_of_a_task_that_fails_in_a_loop_is_told_with_the_steps_that_were_done(
    owner: User, stopped: list[UserTaskStatus], *, is_rejected: bool
) -> None:
    executed_by_a_worker(failing_in_a_loop, owner, is_rejected=is_rejected)

    told = [(status.state, status.completed_steps, status.total_steps) for status in stopped]
    assert told == [("Failed", 5, 10)]
    assert stored(stopped[0]) == (5, 10)


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        (lambda status: status.succeed(), ("Succeeded", 10, 10)),
        (lambda status: status.fail("bad row"), ("Failed", 5, 10)),
    ],
    ids=["succeed", "fail"],
)
def test_a_loop_in_which_its_task_is_brought_to_an_end_has_counted_until_then(
    make_status: MakeStatus,
    stopped: list[UserTaskStatus],
    end: Callable[[UserTaskStatus], None],
    shown: tuple[str, int, int],
) -> None:
    status = make_status()
    for row in status.track(range(10)):
        if row == 5:
            end(status)

    told = [(status.state, status.completed_steps, status.total_steps) for status in stopped]
    assert told == [(stored_state(status), *stored(status))] == [shown]


@shared_task(base=UserTask, bind=True)
def reading_twice(self: UserTask, *, user_id: int) -> tuple[int, int]:
    first, second = self.status, self.status
    for _table in first.track(range(2)):
        consume(second.track(range(3)))
    return stored(self.status)


def test_statuses_that_a_task_read_before_its_first_loop_know_each_others_loops(owner: User) -> None:
    assert reading_twice.apply(kwargs={"user_id": owner.pk}).get() == (8, 8)


@pytest.mark.usefixtures("write_always")
@pytest.mark.parametrize("label", [None, "Packing", "Reading"])
def test_what_a_loop_has_to_tell_that_is_closed_in_an_event_loop_is_told_by_the_next(
    make_status: MakeStatus, label: str | None
) -> None:
    status = make_status()
    rows = status.track(range(3), label="Reading")
    next(rows), next(rows)

    async def drop() -> None:
        rows.close()

    asyncio.run(drop())
    for _row in status.track(range(2), label=label):
        assert stored_state(status) == (label or "In Progress")

    assert (stored(status), stored_state(status)) == ((3, 3), "In Progress")


async def asynchronous(length: int) -> AsyncIterator[int]:
    for row in range(length):
        yield row


@pytest.mark.parametrize(
    ("rows", "shown"),
    [(range(5), (5, 5)), (asynchronous(5), (5, 5)), (User.objects.all(), (1, 1))],
    ids=["iterable", "async iterable", "queryset"],
)
def test_coroutines_track_both_kinds_of_iterables(make_status: MakeStatus, rows: Any, shown: tuple[int, int]) -> None:
    status = make_status()

    async def work() -> None:
        async for _row in status.atrack(rows.all() if hasattr(rows, "all") else rows, label="Reading"):
            assert await sync_to_async(stored_state)(status) == "Reading"

    async_to_sync(work)()

    assert stored(status) == shown


@pytest.mark.usefixtures("write_always")
def test_a_canceled_coroutine_is_stopped_by_the_next_item(make_status: MakeStatus) -> None:
    status = make_status(state="In Progress")

    async def work() -> None:
        async for row in status.atrack(range(10)):
            if row == 3:
                await sync_to_async(lambda: UserTaskStatus.objects.get(pk=status.pk).cancel())()

    with pytest.raises(TaskCanceledException):
        async_to_sync(work)()
    assert stored(status) == (4, 10)


def test_an_error_in_a_coroutine_leaves_what_was_done(make_status: MakeStatus) -> None:
    status = make_status()

    async def work() -> None:
        async for row in status.atrack(range(10)):
            if row == 4:
                raise ValueError(row)

    with pytest.raises(ValueError, match="4"):
        async_to_sync(work)()
    assert stored(status) == (4, 10)


def test_a_coroutine_that_is_canceled_while_its_loop_begins_leaves_none_open(make_status: MakeStatus) -> None:
    status = make_status()
    has_begun, is_canceled = threading.Event(), threading.Event()

    def slow(execute: Callable[..., object], *arguments: object) -> object:
        has_begun.set()
        assert is_canceled.wait(60)
        return execute(*arguments)

    async def loop() -> None:
        async for _row in status.atrack(range(3), label="Reading"):
            pass

    async def work() -> None:
        task = asyncio.create_task(loop())
        await asyncio.to_thread(has_begun.wait, 60)
        task.cancel()
        is_canceled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with connection.execute_wrapper(slow):
        async_to_sync(work)()
    consume(status.track(range(4), label="Packing"))

    assert (stored(status), stored_state(status)) == ((4, 4), "In Progress")


@pytest.fixture
def thread_of_coroutines(db: None) -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Return a function that calls another in the thread in which coroutines run their queries."""

    def call(function: Callable[[], Any]) -> Any:
        async def work() -> Any:
            return await sync_to_async(function)()

        return asyncio.run(work())

    call(connections.close_all)
    yield call
    call(connections.close_all)


InThread = Callable[[Callable[[], Any]], Any]


@pytest.mark.django_db(transaction=True)
def test_a_task_leaves_no_connection_in_the_thread_of_its_coroutine(
    owner: User, thread_of_coroutines: InThread
) -> None:
    status = executed_by_a_worker(tracking_coroutine, owner)

    assert stored(status) == (6, 6)
    assert thread_of_coroutines(lambda: connection.connection) is None


@pytest.mark.django_db(transaction=True)
def test_the_connection_of_coroutines_is_closed_by_the_last_of_their_loops(
    make_status: MakeStatus, thread_of_coroutines: InThread
) -> None:
    status = make_status()
    known = set()

    async def loop(length: int) -> None:
        async for _row in status.atrack(range(length)):
            async for _inner in status.atrack(range(2)):
                known.add(await sync_to_async(lambda: connection.connection)())

    async def work() -> None:
        await asyncio.gather(loop(1), loop(5))

    asyncio.run(work())

    assert len(known) == 1
    assert thread_of_coroutines(lambda: connection.connection) is None


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_a_project_has_opened_in_the_thread_of_its_coroutine_stays(
    make_status: MakeStatus, thread_of_coroutines: InThread
) -> None:
    thread_of_coroutines(UserTaskStatus.objects.count)
    opened = thread_of_coroutines(lambda: connection.connection)

    async def work() -> None:
        async for _row in status.atrack(range(2)):
            pass

    status = make_status()
    asyncio.run(work())

    assert thread_of_coroutines(lambda: connection.connection) is opened is not None


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_to_be_kept_is_closed_once_it_is_too_old(
    make_status: MakeStatus, thread_of_coroutines: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = make_status()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 600)

    async def work() -> None:
        async for _row in status.atrack(range(2)):
            pass

    def kept_connection() -> Any:
        asyncio.run(work())
        return thread_of_coroutines(lambda: connection.connection)

    first = kept_connection()
    assert kept_connection() is first is not None
    thread_of_coroutines(lambda: setattr(connection, "close_at", 0))
    assert kept_connection() is not first


@shared_task(base=UserTask, bind=True)
def tracking_coroutine(self: UserTask, *, user_id: int) -> None:
    async def work() -> None:
        async for _row in self.atrack(asynchronous(6)):
            pass

    asyncio.run(work())


@pytest.mark.django_db(transaction=True)
def test_a_task_tracks_in_a_coroutine(owner: User) -> None:
    tracking_coroutine.apply(kwargs={"user_id": owner.pk})

    status = UserTaskStatus.objects.get()
    assert (status.state, status.completed_steps, status.total_steps) == ("Succeeded", 6, 6)


@pytest.mark.integration
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("protocol", [2], indirect=True)
def test_a_worker_tracks_what_it_executes(owner: User) -> None:
    ids = [task.delay(user_id=owner.pk).id for task in (tracking_task, tracking_coroutine)]

    wait_for(lambda: not UserTaskStatus.objects.unfinished().exists())
    shown = UserTaskStatus.objects.in_bulk(ids, field_name="task_id")
    assert [(shown[task_id].state, stored(shown[task_id])) for task_id in ids] == [
        ("Succeeded", (13, 13)),
        ("Succeeded", (6, 6)),
    ]


@shared_task(base=UserTask, bind=True)
def tracking_elsewhere(self: UserTask, *, user_id: int) -> None:
    async def work() -> None:
        self.atrack(asynchronous(6))

    async_to_sync(work)()


def test_a_thread_that_does_not_know_the_task_is_told_what_to_do(owner: User) -> None:
    with pytest.raises(RuntimeError, match=r"Take `status = self.status` outside"):
        tracking_elsewhere.apply(kwargs={"user_id": owner.pk}).get()


@pytest.fixture(scope="module")
def catalog() -> ModuleType:
    """The tasks that the page shows."""
    blocks = [block for block in code_blocks(ROOT / "docs" / "tracking.rst") if block.caption == "catalog/tasks.py"]
    return executed(Block("python", "\n".join(block.source for block in blocks), "catalog/tasks.py"), "catalog.tasks")


@pytest.mark.parametrize(
    ("name", "call", "shown"),
    [
        ("add_up", ([2, 3, 4], 9), (3, 3)),
        ("read_tables", ([{"name": "A", "rows": [1, 2]}, {"name": "B", "rows": []}], 2), (4, 4)),
        ("publish", (["a"] * 7, "<title>Catalog</title>aaaaaaa"), (100, 100)),
    ],
)
def test_the_documented_tasks_show_their_progress(
    owner: User, catalog: ModuleType, name: str, call: tuple[Any, Any], shown: tuple[int, int]
) -> None:
    argument, result = call
    assert getattr(catalog, name).apply(args=[argument], kwargs={"user_id": owner.pk}).get() == result

    assert stored(UserTaskStatus.objects.get()) == shown
