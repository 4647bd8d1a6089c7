from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, models, transaction
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from user_tasks import removal, transitions
from user_tasks.containers import CHAIN, GROUP
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.querysets import UserTaskStatusQuerySet

MakeStatus = Callable[..., UserTaskStatus]

MAX_AGE = timedelta(days=30)


def pks() -> set[int]:
    return set(UserTaskStatus.objects.values_list("pk", flat=True))


@pytest.fixture
def make_old(make_status: MakeStatus) -> MakeStatus:
    """Return a factory of statuses that are past their age."""

    def make(**fields: Any) -> UserTaskStatus:
        return make_status(created=timezone.now() - timedelta(days=31), **fields)

    return make


@pytest.fixture
def make_tree(make_old: MakeStatus) -> Callable[[], tuple[UserTaskStatus, UserTaskStatus, UserTaskStatus]]:
    """Return a factory of trees past their age: a chain, a group in it, and a task in that."""

    def make() -> tuple[UserTaskStatus, UserTaskStatus, UserTaskStatus]:
        chain = make_old(task_class=CHAIN, is_container=True)
        group = make_old(task_class=GROUP, is_container=True, parent=chain)
        return chain, group, make_old(parent=group)

    return make


@pytest.mark.parametrize("state", ["Pending", "In Progress", "Compressing", "Retrying", "Succeeded", "Failed"])
def test_purge_deletes_what_is_past_its_age_in_any_state(
    make_old: MakeStatus, make_status: MakeStatus, state: str
) -> None:
    make_old(state=state, started=timezone.now() - MAX_AGE)
    young = make_status(created=timezone.now() - timedelta(days=29), state=state)
    assert removal.purge(MAX_AGE) == 1
    assert pks() == {young.pk}


def test_purge_deletes_artifacts_too(
    make_old: MakeStatus, make_status: MakeStatus, make_artifact: Callable[..., UserTaskArtifact]
) -> None:
    make_artifact(make_old())
    kept = make_artifact(make_status())
    assert removal.purge(MAX_AGE) == 1
    assert UserTaskArtifact.objects.get() == kept


def test_purge_deletes_whole_trees(make_tree: Callable[[], Any], make_status: MakeStatus) -> None:
    chain, *_ = make_tree()
    make_status(parent=chain)
    assert removal.purge(MAX_AGE) == 4
    assert pks() == set()


def test_purge_leaves_trees_that_are_young(make_old: MakeStatus, make_status: MakeStatus) -> None:
    container = make_status(is_container=True)
    member = make_old(parent=container)
    assert removal.purge(MAX_AGE) == 0
    assert pks() == {container.pk, member.pk}


@pytest.mark.parametrize("minutes", [0, 4])
def test_purge_keeps_the_tree_of_a_task_that_lives(make_tree: Callable[[], Any], minutes: int) -> None:
    make_tree()
    kept = make_tree()
    kept[-1].heartbeat = timezone.now() - timedelta(minutes=minutes)
    kept[-1].save()
    assert removal.purge(MAX_AGE) == 3
    assert pks() == {row.pk for row in kept}


def test_purge_keeps_a_task_that_lives(make_old: MakeStatus) -> None:
    make_old()
    kept = make_old(heartbeat=timezone.now())
    assert removal.purge(MAX_AGE) == 1
    assert pks() == {kept.pk}


def test_purge_deletes_what_has_been_silent(make_tree: Callable[[], Any]) -> None:
    make_tree()
    UserTaskStatus.objects.update(heartbeat=timezone.now() - timedelta(minutes=6))
    assert removal.purge(MAX_AGE) == 3


def test_purge_asks_the_settings_how_long_silence_may_last(make_old: MakeStatus, settings: Settings) -> None:
    kept = make_old(heartbeat=timezone.now() - timedelta(minutes=6))
    settings.USER_TASKS_LOST_AFTER = timedelta(minutes=7)
    assert removal.purge(MAX_AGE) == 0
    assert pks() == {kept.pk}


def test_purge_of_nothing(make_status: MakeStatus) -> None:
    make_status()
    assert removal.purge(MAX_AGE) == 0


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_purge_leaves_what_other_tables_hold(
    make_holder: Callable[[Any], type[models.Model]],
    make_tree: Callable[[], Any],
    on_delete: Any,
    depth: int,
) -> None:
    trees = [make_tree() for _ in range(5)]
    make_holder(on_delete)._base_manager.create(status=trees[1][depth])
    assert removal.purge(MAX_AGE) == 12
    assert pks() == {row.pk for row in trees[1]}


def test_purge_takes_along_rows_that_do_not_hold(
    make_holder: Callable[[Any], type[models.Model]], make_old: MakeStatus
) -> None:
    holder = make_holder(models.CASCADE)
    holder._base_manager.create(status=make_old())
    assert removal.purge(MAX_AGE) == 1
    assert not holder._base_manager.exists()


def test_purge_goes_on_after_batches_that_are_kept(
    make_holder: Callable[[Any], type[models.Model]], make_old: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    statuses = [make_old() for _ in range(9)]
    holder = make_holder(models.RESTRICT)
    kept = [*statuses[:4], statuses[6]]
    for status in kept:
        holder._base_manager.create(status=status)
    assert removal.purge(MAX_AGE) == 4
    assert pks() == {status.pk for status in kept}


def test_queries_of_a_purge_depend_on_batches_alone(make_tree: Callable[[], Any]) -> None:
    counts = []
    for trees in (2, 20):
        for _ in range(trees):
            make_tree()
        with CaptureQueriesContext(connection) as queries:
            assert removal.purge(MAX_AGE) == 3 * trees
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_deletion_cancels_first(
    make_status: MakeStatus,
    make_artifact: Callable[..., UserTaskArtifact],
    stopped: list[UserTaskStatus],
    revoked: list[str],
) -> None:
    status = make_status()
    make_artifact(status)
    removal.delete(status)
    assert [told.state for told in stopped] == ["Canceled"]
    assert revoked == [status.task_id]
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()


def test_deletion_of_what_has_ended_tells_nobody(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    removal.delete(make_status(state="Succeeded"))
    assert (pks(), stopped) == (set(), [])


def test_deletion_of_a_container_takes_its_members(make_tree: Callable[[], Any], stopped: list[UserTaskStatus]) -> None:
    chain, _group, task = make_tree()
    other = make_tree()
    removal.delete(chain)
    assert pks() == {row.pk for row in other}
    assert task.task_id in {told.task_id for told in stopped}


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
def test_deletion_of_what_other_tables_hold_is_refused(
    make_holder: Callable[[Any], type[models.Model]], make_status: MakeStatus, on_delete: Any
) -> None:
    container = make_status(is_container=True)
    status = make_status(parent=container, total_steps=5)
    make_holder(on_delete)._base_manager.create(status=status)
    with pytest.raises(removal.HELD):
        removal.delete(status)
    assert pks() == {container.pk, status.pk}
    container.refresh_from_db()
    assert container.total_steps == 6


def test_container_does_not_wait_for_a_member_deleted_while_it_ran(
    make_status: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    outer = make_status(task_class=GROUP, is_container=True, total_steps=0)
    group = make_status(task_class=GROUP, is_container=True, total_steps=0, parent=outer)
    done, running = (make_status(parent=group, total_steps=5) for _ in range(2))
    running.start()
    running.increment_completed_steps(2)
    done.succeed()
    removal.delete(UserTaskStatus.objects.get(pk=running.pk))
    for container in (group, outer):
        container.refresh_from_db()
        assert (container.state, container.completed_steps, container.total_steps) == ("Succeeded", 5, 5)
    assert [told.pk for told in stopped] == [done.pk, group.pk, outer.pk]


def test_container_goes_on_when_a_member_is_deleted(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    first, second = (make_status(parent=group, total_steps=5) for _ in range(2))
    second.start()
    removal.delete(UserTaskStatus.objects.get(pk=first.pk))
    group.refresh_from_db()
    assert (group.state, group.total_steps) == ("In Progress", 5)
    second.succeed()
    group.refresh_from_db()
    assert (group.state, group.completed_steps) == ("Succeeded", 5)


def test_container_that_has_ended_is_not_told_again(make_status: MakeStatus, stopped: list[UserTaskStatus]) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    members = [make_status(parent=group) for _ in range(2)]
    for member in members:
        UserTaskStatus.objects.get(pk=member.pk).succeed()
    stopped.clear()
    removal.delete(UserTaskStatus.objects.get(pk=members[0].pk))
    group.refresh_from_db()
    assert (group.state, group.completed_steps, group.total_steps, stopped) == ("Succeeded", 1, 1, [])


def delete_all(*statuses: UserTaskStatus) -> None:
    removal.delete_all(UserTaskStatus.objects.filter(pk__in=[status.pk for status in statuses]).order_by("-pk"))


def test_deletion_of_many_cancels_each_and_takes_along_what_is_below(
    make_tree: Callable[[], Any],
    make_status: MakeStatus,
    make_artifact: Callable[..., UserTaskArtifact],
    stopped: list[UserTaskStatus],
    revoked: list[str],
) -> None:
    kept = make_tree()
    waiting, running, done = (make_status(state=state) for state in ("Pending", "In Progress", "Succeeded"))
    chain, group, task = make_tree()
    for status in (waiting, done, task):
        make_artifact(status)
    delete_all(done, task, running, waiting, chain)
    assert pks() == {row.pk for row in kept}
    assert not UserTaskArtifact.objects.exists()
    assert [told.pk for told in stopped] == [waiting.pk, task.pk, group.pk, chain.pk]
    assert {told.state for told in stopped} == {"Canceled"}
    assert revoked == [waiting.task_id, task.task_id]


def test_queries_of_the_deletion_of_many_depend_on_batches_alone(
    make_tree: Callable[[], Any], make_status: MakeStatus, make_artifact: Callable[..., UserTaskArtifact]
) -> None:
    counts = []
    for number in (2, 20):
        chosen = [make_status() for _ in range(number)]
        for _ in range(number):
            chain, *_ = make_tree()
            chosen.append(chain)
        UserTaskStatus.objects.filter(is_container=True).update(state="Succeeded", finished=timezone.now())
        for status in chosen:
            make_artifact(status)
        with CaptureQueriesContext(connection) as queries:
            delete_all(*chosen)
        assert pks() == set()
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_deletion_of_many_in_several_batches(make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    group = make_status(task_class=GROUP, is_container=True)
    delete_all(group, *(make_status(parent=group) for _ in range(3)), *(make_status() for _ in range(5)))
    assert pks() == set()


def test_deletion_of_many_takes_their_steps_out_of_the_containers_that_stay(make_status: MakeStatus) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    *chosen, kept = (make_status(parent=group, total_steps=5) for _ in range(3))
    delete_all(*chosen)
    assert pks() == {group.pk, kept.pk}
    group.refresh_from_db()
    assert group.total_steps == 5


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
def test_deletion_of_many_is_refused_for_what_other_tables_hold(
    make_holder: Callable[[Any], type[models.Model]], make_status: MakeStatus, on_delete: Any
) -> None:
    free, held = make_status(), make_status()
    make_holder(on_delete)._base_manager.create(status=held)
    with pytest.raises(removal.HELD):
        delete_all(free, held)
    assert pks() == {held.pk}
    held.refresh_from_db()
    assert on_delete is models.DO_NOTHING or held.state == "Pending"


def test_deletion_of_many_is_heard_by_who_listens(make_status: MakeStatus) -> None:
    heard = []

    def hear(instance: UserTaskStatus, **_: Any) -> None:
        heard.append(instance.task_id)

    statuses = [make_status() for _ in range(2)]
    pre_delete.connect(hear, sender=UserTaskStatus)
    try:
        delete_all(*statuses)
    finally:
        pre_delete.disconnect(hear, sender=UserTaskStatus)
    assert heard == [status.task_id for status in statuses]


def refuse(*_: Any) -> int:
    raise OperationalError("Deadlock found when trying to get lock; try restarting transaction")


@pytest.mark.django_db(transaction=True)
def test_deletion_of_many_goes_on_one_by_one_after_a_deadlock(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserTaskStatusQuerySet, "delete_unheard", refuse)
    delete_all(make_status(), make_status())
    assert pks() == set()


@pytest.mark.django_db(transaction=True)
def test_deletion_of_many_tells_of_a_deadlock_that_ended_the_transaction(
    make_status: MakeStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserTaskStatusQuerySet, "delete_unheard", refuse)
    status = make_status()
    with pytest.raises(OperationalError), transaction.atomic():
        delete_all(status)
    assert pks() == {status.pk}


@pytest.fixture(params=["unheard", "heard", "in parts"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How the rows go: by queries, by Django's own deletion, and by several transactions for a large tree."""
    if request.param == "in parts":
        monkeypatch.setattr(removal, "ROWS", 1)
    if request.param == "heard":
        post_delete.connect(hear, sender=UserTaskStatus)
    yield request.param
    post_delete.disconnect(hear, sender=UserTaskStatus)


def hear(**_: Any) -> None:
    """Listen as a project does that wants to be told of each deletion."""


@pytest.mark.usefixtures("replica", "kind")
def test_purge_asks_no_replica(make_old: MakeStatus, make_artifact: Callable[..., UserTaskArtifact]) -> None:
    container = make_old(task_class=GROUP, is_container=True)
    for _ in range(3):
        make_artifact(make_old(parent=container))
    make_old(heartbeat=timezone.now())

    assert removal.count(MAX_AGE) == 4
    assert removal.purge(MAX_AGE) == 4
    assert UserTaskStatus.objects.using("default").count() == 1


@pytest.mark.usefixtures("replica")
def test_purge_asks_no_replica_what_other_tables_hold(
    make_holder: Callable[[Any], type[models.Model]], make_old: MakeStatus
) -> None:
    held, _other = make_old(), make_old()
    make_holder(models.RESTRICT)._base_manager.create(status=held)
    assert removal.purge(MAX_AGE) == 1
    assert UserTaskStatus.objects.using("default").get() == held


@pytest.fixture
def contended() -> Iterator[list[str]]:
    """The first statement that deletes or expires anything, which the database gives up as the victim of a deadlock."""
    victims: list[str] = []

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not victims and (sql.startswith("DELETE") or '"expired" = ' in sql or "`expired` = " in sql):
            victims.append(sql)
            raise OperationalError(1213, "Deadlock found when trying to get lock")
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield victims


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("kind")
def test_purge_survives_a_deadlock(make_old: MakeStatus, contended: list[str]) -> None:
    container = make_old(task_class=GROUP, is_container=True)
    for _ in range(3):
        make_old(parent=container)
    assert removal.purge(MAX_AGE) == 4
    assert contended
    assert pks() == set()


@pytest.mark.django_db(transaction=True)
def test_expiry_survives_a_deadlock(
    make_status: MakeStatus, make_artifact: Callable[..., UserTaskArtifact], settings: Settings, contended: list[str]
) -> None:
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=7)
    week_ago = timezone.now() - timedelta(days=8)
    make_artifact(make_status(), file="elsewhere/table.csv", created=week_ago)
    UserTaskArtifact.objects.update(stored=week_ago)
    assert removal.purge_and_count(MAX_AGE).expired == 1
    assert contended


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_in_a_transaction_is_its_own_to_try_again(make_old: MakeStatus, contended: list[str]) -> None:
    make_old()
    with pytest.raises(OperationalError), transaction.atomic():
        removal.purge(MAX_AGE)
    assert len(contended) == len(pks()) == 1


@pytest.mark.django_db(transaction=True)
def test_what_went_before_a_row_came_to_hold_a_large_tree_is_counted(
    make_old: MakeStatus, make_holder: Callable[[Any], type[models.Model]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "ROWS", 2)
    holder = make_holder(models.DO_NOTHING)
    container = make_old(task_class=GROUP, is_container=True)
    members = [make_old(parent=container) for _ in range(5)]
    deletions = 0

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal deletions
        if sql.startswith("DELETE") and "usertaskstatus" in sql:
            deletions += 1
            if deletions == 2:
                holder._base_manager.create(status=members[-1])
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        purged = removal.purge_and_count(MAX_AGE)
    assert purged.held == 1
    assert purged.statuses == 6 - len(pks()) > 0


@pytest.mark.usefixtures("replica")
def test_deletion_asks_no_replica(make_status: MakeStatus) -> None:
    status = make_status(state="Succeeded", finished=timezone.now())
    removal.delete(status)
    assert not UserTaskStatus.objects.using("default").exists()


@pytest.mark.django_db(transaction=True)
def test_deletion_takes_out_the_steps_that_a_worker_takes_meanwhile(make_status: MakeStatus) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    make_status(parent=group, total_steps=5)
    status = make_status(parent=group, total_steps=5, state="In Progress", started=timezone.now())
    working = UserTaskStatus.objects.get(pk=status.pk)
    is_stepping = False

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal is_stepping
        result = run(sql, params, many, context)
        # Inside the transaction the worker would have to wait.
        if not is_stepping and not connection.in_atomic_block:
            is_stepping = True
            if transitions.refresh(working):
                transitions.add_steps(working, completed=1)
            is_stepping = False
        return result

    with connection.execute_wrapper(execute):
        removal.delete(status)
    group.refresh_from_db()
    assert (group.completed_steps, group.total_steps, status.completed_steps > 0) == (0, 5, True)


def test_two_deletions_of_a_member_take_out_its_steps_once(make_status: MakeStatus) -> None:
    group = make_status(task_class=GROUP, is_container=True, total_steps=0)
    make_status(parent=group, total_steps=5)
    member = make_status(parent=group, total_steps=5)
    for copy in [UserTaskStatus.objects.get(pk=member.pk) for _ in range(2)]:
        removal.delete(copy)
    group.refresh_from_db()
    assert group.total_steps == 5
