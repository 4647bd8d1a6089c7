from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from user_tasks import containers, recording, removal, transitions
from user_tasks.containers import CHAIN, CHORD, ERRORS_KEPT, GROUP
from user_tasks.exceptions import TaskCanceledException
from user_tasks.models import UserTaskStatus

MakeStatus = Callable[..., UserTaskStatus]


@dataclass
class Chord:
    """A chord's rows: its container, the group in it, the group's two headers, and the body."""

    container: UserTaskStatus
    group: UserTaskStatus
    headers: list[UserTaskStatus]
    body: UserTaskStatus


@pytest.fixture
def chain(make_status: MakeStatus, make_container: MakeStatus) -> list[UserTaskStatus]:
    """A chain of three links of ten steps, the container first."""
    container = make_container(CHAIN)
    first = make_status(parent=container, total_steps=10)
    return [container, first, *(make_status(parent=container, total_steps=10, due=None) for _ in range(2))]


@pytest.fixture
def group(make_status: MakeStatus, make_container: MakeStatus) -> list[UserTaskStatus]:
    """A group of three members of ten steps, the container first."""
    container = make_container(GROUP)
    return [container, *(make_status(parent=container, total_steps=10) for _ in range(3))]


@pytest.fixture
def chord(make_status: MakeStatus, make_container: MakeStatus) -> Chord:
    """A chord of two headers and a body of ten steps each."""
    container = make_container(CHORD)
    inner = make_container(GROUP, parent=container)
    headers = [make_status(parent=inner, total_steps=10) for _ in range(2)]
    return Chord(container, inner, headers, make_status(parent=container, total_steps=10, due=None))


def fresh(status: UserTaskStatus) -> UserTaskStatus:
    return UserTaskStatus.objects.get(pk=status.pk)


def state_of(status: UserTaskStatus) -> str:
    return fresh(status).state


def states_of(*statuses: UserTaskStatus) -> list[str]:
    return [state_of(status) for status in statuses]


def steps_of(status: UserTaskStatus) -> tuple[int, int]:
    status = fresh(status)
    return status.completed_steps, status.total_steps


def errors_of(status: UserTaskStatus) -> list[str]:
    return list(status.artifacts.filter(name="Error").order_by("pk").values_list("text", flat=True))


def at_rest(status: UserTaskStatus) -> bool:
    return not UserTaskStatus.objects.unfinished().filter(pk=status.pk).exists()


@pytest.mark.parametrize("state", ["Pending", "Retrying"])
def test_containers_start_with_their_first_member(chord: Chord, state: str) -> None:
    UserTaskStatus.objects.filter(is_container=True).update(state=state)
    fresh(chord.headers[0]).start()
    assert states_of(chord.container, chord.group) == ["In Progress", "In Progress"]
    assert states_of(chord.headers[1], chord.body) == ["Pending", "Pending"]
    assert fresh(chord.group).started is not None


@pytest.mark.parametrize("state", ["Compressing", "Failed", "Canceled", "Succeeded"])
def test_container_that_does_not_wait_is_left_by_a_start(chord: Chord, state: str) -> None:
    UserTaskStatus.objects.filter(pk=chord.container.pk).update(state=state)
    fresh(chord.body).start()
    assert state_of(chord.container) == state


def test_steps_climb_to_every_container(chord: Chord) -> None:
    header = fresh(chord.headers[0])
    header.increment_completed_steps(4)
    header.increment_total_steps(5)
    assert [steps_of(row) for row in (header, chord.group, chord.container)] == [(4, 15), (4, 25), (4, 35)]
    assert steps_of(chord.headers[1]) == steps_of(chord.body) == (0, 10)


def test_step_of_a_canceled_member_counts_in_every_container(chord: Chord) -> None:
    header = fresh(chord.headers[0])
    header.start()
    fresh(header).cancel()
    with pytest.raises(TaskCanceledException):
        header.increment_completed_steps()
    assert [steps_of(row)[0] for row in (header, chord.group, chord.container)] == [1, 1, 1]


def test_success_completes_the_steps_of_every_container(chord: Chord) -> None:
    header = fresh(chord.headers[0])
    header.increment_completed_steps(4)
    header.succeed()
    assert [steps_of(row)[0] for row in (header, chord.group, chord.container)] == [10, 10, 10]


def test_steps_taken_back_are_taken_back_in_every_container(chord: Chord) -> None:
    header = fresh(chord.headers[0])
    header.start()
    header.increment_completed_steps(4)
    header.retry()
    assert [steps_of(row)[0] for row in (header, chord.group, chord.container)] == [4, 4, 4]
    assert states_of(chord.group, chord.container) == ["In Progress", "In Progress"]
    header.start()
    assert [steps_of(row)[0] for row in (header, chord.group, chord.container)] == [0, 0, 0]


def test_name_climbs_to_every_container(chord: Chord) -> None:
    fresh(chord.headers[0]).set_name("x" * 300)
    named = UserTaskStatus.objects.filter(name="x" * 254 + "…")
    assert set(named) == {chord.headers[0], chord.group, chord.container}


def test_cached_containers_show_the_new_values(chord: Chord) -> None:
    header = UserTaskStatus.objects.select_related("parent__parent").get(pk=chord.headers[0].pk)
    group = header.parent
    assert group is not None
    container = group.parent
    assert container is not None
    header.start()
    header.increment_completed_steps(4)
    header.set_name("Import")
    assert [(row.state, row.completed_steps, row.name) for row in (header, group, container)] == [
        ("In Progress", 4, "Import")
    ] * 3
    header.fail("why")
    assert (group.state, container.state) == ("Failed", "Failed")


@pytest.mark.parametrize(("kind", "climbs"), [(CHAIN, True), (CHORD, True), (GROUP, False), ("shop.bundle", True)])
def test_custom_state_climbs_except_into_a_group(
    make_status: MakeStatus, make_container: MakeStatus, kind: str, climbs: bool
) -> None:
    outer = make_container(CHAIN)
    container = make_container(kind, parent=outer)
    member = make_status(parent=container)
    member.set_state("Compressing")
    expected = "Compressing" if climbs else "Pending"
    assert states_of(member, container, outer) == ["Compressing", expected, expected]


def test_custom_state_does_not_open_a_final_container(chain: list[UserTaskStatus]) -> None:
    UserTaskStatus.objects.filter(pk=chain[0].pk).update(state="Failed")
    fresh(chain[1]).set_state("Compressing")
    assert states_of(*chain[:2]) == ["Failed", "Compressing"]


@pytest.mark.parametrize("kind", [CHAIN, GROUP, "shop.bundle"])
def test_container_succeeds_with_its_last_member(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus], kind: str
) -> None:
    container = make_container(kind)
    members = [make_status(parent=container, total_steps=10) for _ in range(3)]
    for member in members[:2]:
        member.start()
        member.succeed()
        assert state_of(container) == "In Progress"
    members[2].succeed()
    assert (state_of(container), steps_of(container)) == ("Succeeded", (30, 30))
    assert stopped == [*members, container]
    assert stopped[-1].state == "Succeeded"
    assert at_rest(container)


def test_chord_succeeds_with_its_body(chord: Chord, stopped: list[UserTaskStatus]) -> None:
    for header in chord.headers:
        fresh(header).succeed()
    assert states_of(chord.group, chord.container, chord.body) == ["Succeeded", "Pending", "Pending"]
    fresh(chord.body).succeed()
    assert (state_of(chord.container), steps_of(chord.container)) == ("Succeeded", (30, 30))
    assert stopped == [*chord.headers, chord.group, chord.body, chord.container]


def test_chord_without_a_body_succeeds_with_its_group(chord: Chord, stopped: list[UserTaskStatus]) -> None:
    chord.body.delete()
    for header in chord.headers:
        fresh(header).succeed()
    assert state_of(chord.container) == "Succeeded"
    assert stopped == [*chord.headers, chord.group, chord.container]


def test_failure_climbs_with_its_message(chord: Chord) -> None:
    fresh(chord.headers[0]).fail("why")
    failed = [chord.headers[0], chord.group, chord.container]
    assert states_of(*failed) == ["Failed"] * 3
    assert [errors_of(row) for row in failed] == [["why"]] * 3
    assert errors_of(chord.headers[1]) == []


def test_failure_given_as_a_state_climbs_without_a_message(chord: Chord) -> None:
    fresh(chord.headers[0]).set_state("Failed")
    failed = [chord.headers[0], chord.group, chord.container]
    assert states_of(*failed) == ["Failed"] * 3
    assert [errors_of(row) for row in failed] == [[]] * 3


def test_rest_of_a_failed_chain_is_canceled(
    chain: list[UserTaskStatus], stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    fresh(chain[1]).succeed()
    stopped.clear()
    fresh(chain[2]).fail("why")
    assert states_of(*chain) == ["Failed", "Succeeded", "Failed", "Canceled"]
    assert sorted(told.pk for told in stopped) == [chain[0].pk, chain[2].pk, chain[3].pk]
    assert stopped[-1] == chain[0]
    assert revoked == []


def test_body_of_a_failed_chord_is_canceled_and_other_headers_run_on(
    chord: Chord, stopped: list[UserTaskStatus]
) -> None:
    running = fresh(chord.headers[1])
    running.start()
    fresh(chord.headers[0]).fail("why")
    assert states_of(chord.body, running, chord.group, chord.container) == [
        "Canceled",
        "In Progress",
        "Failed",
        "Failed",
    ]
    assert not at_rest(chord.group)
    assert not at_rest(chord.container)
    running.succeed()
    assert states_of(running, chord.group, chord.container) == ["Succeeded", "Failed", "Failed"]
    assert stopped == [chord.headers[0], chord.body, running, chord.group, chord.container]


def test_branch_that_follows_a_failed_link_is_canceled_with_its_members(
    make_status: MakeStatus, make_container: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    chain = make_container(CHAIN)
    link = make_status(parent=chain)
    branch = make_container(GROUP, parent=chain)
    members = [make_status(parent=branch, due=None) for _ in range(2)]
    link.fail("why")
    assert states_of(chain, link, branch, *members) == ["Failed", "Failed", "Canceled", "Canceled", "Canceled"]
    assert sorted(told.pk for told in stopped) == sorted(row.pk for row in (chain, link, branch, *members))
    assert all(at_rest(row) for row in (chain, branch))


def test_branch_that_has_been_published_for_the_failure_is_not_canceled_with_it(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    chain = make_container(CHAIN)
    link = make_status(parent=chain)
    planned = make_status(parent=chain, due=None)
    fresh(link).start()
    group = make_container(GROUP, parent=chain)
    callback = make_status(parent=group)

    fresh(link).fail("why")
    assert states_of(chain, link, planned, group, callback) == ["Failed", "Failed", "Canceled", "Pending", "Pending"]
    assert not at_rest(chain)

    fresh(callback).start()
    fresh(callback).succeed()
    assert states_of(chain, group, callback) == ["Failed", "Succeeded", "Succeeded"]
    assert at_rest(chain)


def test_container_keeps_the_first_errors(make_status: MakeStatus, make_container: MakeStatus) -> None:
    outer = make_container(GROUP)
    container = make_container(GROUP, parent=outer)
    members = [make_status(parent=container) for _ in range(ERRORS_KEPT + 3)]
    for place, member in enumerate(members):
        member.fail(f"error {place}")
    kept = [f"error {place}" for place in range(20)]
    assert (errors_of(container), errors_of(outer)) == (kept, kept)
    assert errors_of(members[-1]) == ["error 22"]


def test_canceled_link_ends_its_chain(chain: list[UserTaskStatus], stopped: list[UserTaskStatus]) -> None:
    fresh(chain[1]).cancel()
    assert states_of(*chain) == ["Canceled"] * 4
    assert sorted(told.pk for told in stopped) == [row.pk for row in chain]
    assert stopped[-1] == chain[0]


def test_canceled_member_does_not_end_its_group(group: list[UserTaskStatus], stopped: list[UserTaskStatus]) -> None:
    container, *members = group
    fresh(members[0]).cancel()
    assert states_of(*group) == ["Pending", "Canceled", "Pending", "Pending"]
    fresh(members[1]).succeed()
    fresh(members[2]).succeed()
    assert state_of(container) == "Canceled"
    assert stopped == [*members, container]


def test_canceled_header_cancels_the_body(chord: Chord, stopped: list[UserTaskStatus]) -> None:
    fresh(chord.headers[0]).cancel()
    fresh(chord.headers[1]).succeed()
    assert states_of(chord.group, chord.body, chord.container) == ["Canceled"] * 3
    assert sorted(told.pk for told in stopped) == sorted(
        row.pk for row in (*chord.headers, chord.group, chord.body, chord.container)
    )


def test_failure_goes_before_cancellation(group: list[UserTaskStatus]) -> None:
    container, *members = group
    fresh(members[0]).cancel()
    fresh(members[1]).fail("why")
    fresh(members[2]).succeed()
    assert state_of(container) == "Failed"


@pytest.mark.parametrize("tree", ["chain", "group"])
def test_canceled_container_cancels_what_waits(
    request: pytest.FixtureRequest, tree: str, stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    container, *members = request.getfixturevalue(tree)
    published = [member.task_id for member in members if member.due is not None]
    canceling = fresh(container)
    canceling.cancel()
    assert canceling.state == "Canceled"
    assert states_of(container, *members) == ["Canceled"] * 4
    assert sorted(told.pk for told in stopped) == [container.pk, *(member.pk for member in members)]
    assert stopped[-1] == container
    assert sorted(revoked) == sorted(published)


def test_canceled_container_shows_it_before_its_signal(group: list[UserTaskStatus]) -> None:
    from user_tasks import user_task_stopped

    canceling = fresh(group[0])
    seen: list[tuple[str, bool]] = []

    def receive(status: UserTaskStatus, **_: object) -> None:
        if status == canceling:
            seen.append((canceling.state, status is canceling))

    user_task_stopped.connect(receive)
    canceling.cancel()
    user_task_stopped.disconnect(receive)
    assert seen == [("Canceled", False)]


def test_canceled_container_comes_to_rest_with_the_last_worker(
    chord: Chord, stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    running, waiting = (fresh(header) for header in chord.headers)
    running.start()
    fresh(chord.container).cancel()
    assert states_of(chord.container, chord.group, running, waiting, chord.body) == ["Canceled"] * 5
    assert revoked == [waiting.task_id]
    assert sorted(told.pk for told in stopped) == [waiting.pk, chord.body.pk]
    with pytest.raises(TaskCanceledException):
        running.increment_completed_steps()
    recording.ended(running.task_id)
    assert stopped[2:] == [running, chord.group, chord.container]
    assert all(at_rest(row) for row in (chord.container, chord.group, running))


def test_cancel_leaves_members_that_have_ended(chord: Chord, stopped: list[UserTaskStatus]) -> None:
    fresh(chord.headers[0]).succeed()
    stopped.clear()
    fresh(chord.container).cancel()
    assert states_of(chord.headers[0], chord.headers[1], chord.body) == ["Succeeded", "Canceled", "Canceled"]
    assert states_of(chord.group, chord.container) == ["Canceled", "Canceled"]
    assert chord.headers[0] not in stopped


@pytest.mark.parametrize("state", ["Succeeded", "Failed", "Canceled"])
def test_cancel_of_a_container_in_a_final_state_does_nothing(
    group: list[UserTaskStatus], stopped: list[UserTaskStatus], state: str
) -> None:
    container, *members = group
    UserTaskStatus.objects.filter(pk=container.pk).update(state=state)
    fresh(container).cancel()
    assert states_of(container, *members) == [state, "Pending", "Pending", "Pending"]
    assert stopped == []


def test_canceled_branch_settles_what_holds_it(chord: Chord, stopped: list[UserTaskStatus]) -> None:
    fresh(chord.group).cancel()
    assert states_of(chord.group, *chord.headers, chord.body, chord.container) == ["Canceled"] * 5
    assert len(stopped) == len(set(stopped)) == 5


def test_canceled_container_without_members_is_at_rest(
    make_container: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    container = make_container(GROUP)
    container.cancel()
    assert (container.state, stopped) == ("Canceled", [container])
    assert at_rest(container)


def test_large_group_is_canceled_whole(
    owner: object, make_container: MakeStatus, stopped: list[UserTaskStatus], revoked: list[str]
) -> None:
    container = make_container(GROUP)
    members = [
        UserTaskStatus(
            user_id=container.user_id,
            task_id=f"member {place}",
            total_steps=1,
            parent=container,
            due=container.created,
        )
        for place in range(1201)
    ]
    UserTaskStatus.objects.bulk_create(members)
    container.cancel()
    assert UserTaskStatus.objects.filter(state="Canceled", finished__isnull=False).count() == 1202
    assert len(stopped) == len({told.pk for told in stopped}) == 1202
    assert len(revoked) == len(set(revoked)) == 1201


def test_member_of_a_succeeded_container_ends_it_anew(make_status: MakeStatus, group: list[UserTaskStatus]) -> None:
    """A group whose members come one by one may have ended in between."""
    container, *members = group
    for member in members:
        fresh(member).succeed()
    from user_tasks import containers

    containers.join(fresh(container), 5)
    late = make_status(parent=fresh(container), total_steps=0)
    assert (state_of(container), steps_of(container)) == ("In Progress", (30, 35))
    late.succeed()
    assert state_of(container) == "Succeeded"


MEMBERS = 8


def in_threads(actions: list[Callable[[], object]]) -> None:
    """Run all actions at the same moment, each with a database connection of its own."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], object]) -> None:
        barrier.wait(timeout=30)
        try:
            action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(actions)) as pool:
        for future in [pool.submit(run, action) for action in actions]:
            future.result(timeout=60)


def atomically(action: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with transaction.atomic():
            action()

    return run


@pytest.fixture
def nested_group(transactional_db: None, make_status: MakeStatus, make_container: MakeStatus) -> list[UserTaskStatus]:
    """A group in a group, and members of the inner one, each read by itself."""
    outer = make_container(GROUP)
    inner = make_container(GROUP, parent=outer)
    members = [make_status(parent=inner, total_steps=5) for _ in range(MEMBERS)]
    return [fresh(row) for row in (outer, inner, *members)]


@pytest.mark.parametrize("wrap", [lambda action: action, atomically], ids=["alone", "in a transaction"])
def test_members_that_end_at_once_settle_their_containers_once(
    nested_group: list[UserTaskStatus],
    stopped: list[UserTaskStatus],
    wrap: Callable[[Callable[[], object]], Callable[[], object]],
) -> None:
    outer, inner, *members = nested_group
    in_threads([wrap(member.succeed) for member in members])
    assert states_of(outer, inner, *members) == ["Succeeded"] * (MEMBERS + 2)
    assert steps_of(outer) == steps_of(inner) == (5 * MEMBERS, 5 * MEMBERS)
    assert sorted(told.pk for told in stopped) == sorted(row.pk for row in nested_group)


def test_status_that_ends_in_many_ways_at_once_is_told_once(
    transactional_db: None, make_status: MakeStatus, stopped: list[UserTaskStatus]
) -> None:
    status = make_status()
    verbs = ("succeed", "cancel", "succeed", "cancel")
    in_threads([getattr(fresh(status), verb) for verb in verbs] + [lambda: fresh(status).fail("why")])
    assert [told.pk for told in stopped] == [status.pk]
    assert stopped[0].state == state_of(status)
    assert len(errors_of(status)) == (state_of(status) == "Failed")


def test_cancel_against_members_that_end(nested_group: list[UserTaskStatus], stopped: list[UserTaskStatus]) -> None:
    outer, _inner, *members = nested_group
    in_threads([outer.cancel, *(member.succeed for member in members)])
    assert all(at_rest(row) for row in nested_group)
    assert sorted(told.pk for told in stopped) == sorted(row.pk for row in nested_group)


def test_cancels_against_members_that_report(nested_group: list[UserTaskStatus], stopped: list[UserTaskStatus]) -> None:
    outer, inner, *members = nested_group

    def work(member: UserTaskStatus) -> Callable[[], object]:
        def run() -> None:
            for step in range(10):
                member.set_name(f"step {step}")
                with suppress(TaskCanceledException):
                    member.increment_completed_steps()

        return run

    in_threads([outer.cancel, inner.cancel, fresh(outer).cancel, *(work(member) for member in members)])
    assert all(at_rest(row) for row in nested_group)
    assert states_of(*nested_group) == ["Canceled"] * len(nested_group)
    assert sorted(told.pk for told in stopped) == sorted(row.pk for row in nested_group)
    assert steps_of(outer)[0] == steps_of(inner)[0] == 10 * MEMBERS


def test_steps_of_members_add_up(nested_group: list[UserTaskStatus]) -> None:
    outer, inner, *members = nested_group

    def work(member: UserTaskStatus) -> Callable[[], object]:
        def run() -> None:
            for _ in range(5):
                member.increment_completed_steps()

        return run

    in_threads([work(member) for member in members])
    assert steps_of(outer) == steps_of(inner) == (5 * MEMBERS, 5 * MEMBERS)


def queries_of(action: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as queries:
        action()
    return len(queries)


VERBS: dict[str, Callable[[UserTaskStatus], object]] = {
    "start": lambda status: status.start(),
    "increment_completed_steps": lambda status: status.increment_completed_steps(),
    "set_state": lambda status: status.set_state("Compressing"),
    "retry": lambda status: status.retry(),
    "succeed": lambda status: status.succeed(),
    "fail": lambda status: status.fail("why"),
    "cancel": lambda status: status.cancel(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_queries_do_not_depend_on_the_number_of_siblings(
    make_status: MakeStatus, make_container: MakeStatus, verb: str
) -> None:
    counts = set()
    for siblings in (1, 40):
        container = make_container(GROUP)
        member = make_status(parent=container)
        for _ in range(siblings):
            make_status(parent=container)
        member = UserTaskStatus.objects.select_related("parent__parent__parent").get(pk=member.pk)
        counts.add(queries_of(partial(VERBS[verb], member)))
    assert len(counts) == 1


@pytest.mark.parametrize(("depth", "first"), [(1, 2), (3, 2), (4, 3), (6, 5)])
def test_a_step_takes_one_update_and_one_look_and_the_first_a_query_for_each_container_above_the_third(
    make_status: MakeStatus, make_container: MakeStatus, depth: int, first: int
) -> None:
    container = make_container(CHAIN)
    for _ in range(depth - 1):
        container = make_container(GROUP, parent=container)
    member = UserTaskStatus.objects.of_task(make_status(parent=container).task_id)
    assert member is not None

    assert queries_of(member.increment_completed_steps) == first
    assert queries_of(member.increment_completed_steps) == 2


def test_a_member_that_joins_while_its_container_is_canceled_is_canceled(
    make_status: Callable[..., UserTaskStatus], make_container: Callable[..., UserTaskStatus]
) -> None:
    group = make_container(GROUP)
    make_status(parent=fresh(group))
    read_before = fresh(group)
    member = make_status()
    fresh(group).cancel()

    UserTaskStatus.objects.filter(pk=member.pk).update(parent=group)
    containers.join(read_before, 1)

    assert states_of(member) == ["Canceled"]


def test_a_member_that_joins_counts_in_every_container_also_in_one_that_is_canceled(
    make_status: Callable[..., UserTaskStatus], make_container: Callable[..., UserTaskStatus]
) -> None:
    outer = make_container(CHAIN, state="Canceled")
    group = make_container(GROUP, parent=outer, state="In Progress")
    member = make_status()
    UserTaskStatus.objects.filter(pk=member.pk).update(parent=group)

    containers.join(fresh(group), 1)

    assert (fresh(group).total_steps, fresh(outer).total_steps) == (1, 1)
    assert states_of(member, group, outer) == ["Pending", "In Progress", "Canceled"]


MOVES: dict[str, Callable[[UserTaskStatus], object]] = {
    "start": lambda member: member.start(),
    "set_state": lambda member: member.set_state("Packing"),
    "increment_completed_steps": lambda member: member.increment_completed_steps(),
    "retry": lambda member: member.retry(),
    "add_artifact": lambda member: member.add_artifact(text="done"),
    "succeed": lambda member: member.succeed(),
    "succeed with nothing missing": lambda member: recording.succeeded(member.task_id),
    "fail": lambda member: member.fail("bad row"),
    "cancel": lambda member: member.cancel(),
    "begin": lambda member: recording.started(member.task_id),
    "give back": lambda member: recording.requeued(member.task_id),
    "stop": lambda member: recording.revoked(member.task_id),
    "end": lambda member: recording.ended(member.task_id),
}


def first_locked(move: Callable[[], object]) -> set[int]:
    """Return the primary keys of the rows that are locked first."""
    with CaptureQueriesContext(connection) as queries:
        move()
    first = next(query["sql"] for query in queries if query["sql"].startswith("UPDATE"))
    return set(map(int, re.findall(r"\b\d+\b", first.rpartition("WHERE")[2])))


@pytest.mark.parametrize("move", MOVES)
def test_a_move_in_a_transaction_locks_from_the_top(
    make_status: MakeStatus, make_container: MakeStatus, move: str
) -> None:
    group = make_container(GROUP)
    member = fresh(make_status(parent=fresh(group), state="In Progress", completed_steps=1))

    with transaction.atomic():
        assert first_locked(lambda: MOVES[move](member)) == {group.pk, member.pk}


@pytest.mark.django_db(transaction=True)
def test_a_lost_member_that_is_put_back_is_locked_from_the_top(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    chord = make_container(CHORD)
    group = make_container(GROUP, parent=chord)
    member = make_status(parent=group, state="In Progress", heartbeat=timezone.now())
    transitions.lose(fresh(member), "gone")

    assert first_locked(lambda: transitions.revive(fresh(member))) == {chord.pk, group.pk, member.pk}


def test_what_a_member_has_done_since_it_was_read_goes_with_it(group: list[UserTaskStatus]) -> None:
    container, member, *_others = group
    read_before = fresh(member)
    fresh(member).increment_completed_steps(4)

    with transaction.atomic():
        containers.take_out(read_before)

    assert steps_of(container) == (0, 20)


@pytest.mark.parametrize("verb", ["increment_completed_steps", "increment_total_steps"])
def test_a_step_of_a_deleted_member_counts_nowhere(group: list[UserTaskStatus], verb: str) -> None:
    container, member, *_others = group
    running = fresh(member)
    removal.delete(fresh(member))

    with pytest.raises(TaskCanceledException, match="deleted"):
        getattr(running, verb)(4)

    assert steps_of(container) == (0, 20)


def test_members_that_begin_while_their_container_is_canceled_are_not_at_rest(
    group: list[UserTaskStatus], stopped: list[UserTaskStatus]
) -> None:
    container, first, *others = group
    beginnings = iter([UserTaskStatus.objects.filter(pk=first.pk)])

    def begin_first(execute: Callable[..., object], sql: str, *arguments: object) -> object:
        """Begin one between the look at what waits and the write."""
        if sql.startswith("UPDATE"):
            for its in beginnings:
                its.update(state="In Progress", started=timezone.now())
        return execute(sql, *arguments)

    canceled = fresh(container)
    with connection.execute_wrapper(begin_first):
        containers.cancel_members(canceled)

    assert (state_of(first), fresh(first).finished) == ("Canceled", None)
    assert [status.pk for status in stopped] == [other.pk for other in others]
