"""What each operation may cost, in statements and commits, however many siblings, rows and users there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from celery import chain, chord, current_app, group, shared_task
from celery.app.trace import trace_task
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext, override_settings
from django.urls import resolve
from django.utils.timezone import now
from rest_framework.test import APIRequestFactory, force_authenticate

from benchmarks import rows
from user_tasks import recording
from user_tasks.containers import CHAIN, CHORD, GROUP
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.querysets import UserTaskStatusQuerySet
from user_tasks.recording import status_of
from user_tasks.tasks import UserTask

WORK = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""How statements begin that are counted: what begins and ends transactions is not."""

Call = Callable[[], object]
Prepare = Callable[[User], Call]


INSERTED = "can_return_rows_from_bulk_insert"
UPDATED = "can_return_rows_from_update"
"""Features: the database returns the rows that it inserts, or updates, to Django."""

Statements = int | tuple[int, int]
"""So many statements, or so many without and with the feature that matters."""


@dataclass(frozen=True)
class Budget:
    """What an operation costs beside what it may cost at most."""

    there: str
    """The statements that the established design of such statuses takes, where that is known."""
    limit: Statements | None
    statements: Statements
    commits: int
    prepare: Prepare
    feature: str = ""

    def of_database(self, statements: Statements) -> int:
        """Return the statements that are meant for this database."""
        if isinstance(statements, int):
            return statements
        return statements[getattr(connection.features, self.feature, False)]


@shared_task(base=UserTask, bind=True)
def idle(self: UserTask, *results: Any, user_id: int) -> None: ...


@shared_task(base=UserTask, bind=True)
def asking(self: UserTask, *results: Any, user_id: int) -> str:
    return self.status.name


def alone(user: User, task: Any = idle) -> None:
    task.delay(user_id=user.pk)


def group_of(size: int) -> Callable[[User], object]:
    return lambda user: group(idle.si(user_id=user.pk) for _ in range(size)).delay()


def chain_of(size: int) -> Callable[[User], object]:
    return lambda user: chain(*(idle.si(user_id=user.pk) for _ in range(size))).delay()


def chord_of(size: int) -> Callable[[User], object]:
    return lambda user: chord([idle.si(user_id=user.pk) for _ in range(size)], idle.si(user_id=user.pk)).delay()


def publishing(canvas: Callable[[User], object]) -> Prepare:
    return lambda user: lambda: canvas(user)


def one_by_one(canvas: Callable[[User], object]) -> Prepare:
    """Publish a canvas where groups are not recorded as a whole."""

    def prepare(user: User) -> Call:
        def publish() -> None:
            with override_settings(USER_TASKS_RECORD_GROUPS=False):
                canvas(user)

        return publish

    return prepare


def joining(user: User) -> Call:
    """Publish a member of a group of which others are there."""
    options: dict[str, Any] = {"group_id": "group"}
    publish = partial(idle.apply_async, kwargs={"user_id": user.pk}, **options)
    publish()
    return publish


def running(canvas: Callable[[User], object], after: int = 0) -> Prepare:
    """Execute a task as a worker does, after so many others of the same canvas."""

    def prepare(user: User) -> Call:
        canvas(user)
        for _ in range(after):
            take_message()()
        return take_message()

    return prepare


def take_message() -> Call:
    """Return what executes the task of the next message in the queue, and publishes what follows it."""
    with queue() as own:
        message = own.get(no_ack=True)
        while message.headers["task"] not in (idle.name, asking.name):
            message = own.get(no_ack=True)
    headers = message.headers
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # of the proxy, not in the stubs
    args, kwargs, embed = message.decode()
    task = current_app.tasks[headers["task"]]
    return lambda: trace_task(task, headers["id"], args, kwargs, request={**headers, **embed}, app=app)


def stepping(canvas: Callable[[User], object], *, held: bool = True) -> Prepare:
    def prepare(user: User) -> Call:
        canvas(user)
        task_id = UserTaskStatus.objects.filter(is_container=False).values_list("task_id", flat=True)[0]
        if not held:
            return lambda: held_status(task_id).increment_completed_steps()
        status = held_status(task_id)
        status.start()
        return status.increment_completed_steps

    return prepare


def held_status(task_id: str) -> UserTaskStatus:
    status = status_of(task_id)
    assert status is not None
    return status


def getting(path: Callable[[], str], again: bool = False) -> Prepare:
    """Answer a request of a user who is known already."""

    def prepare(user: User) -> Call:
        statuses = UserTaskStatus.objects.bulk_create(
            UserTaskStatus(user=user, task_id=f"task{n}", task_class="shop.export", name="Export", total_steps=1)
            for n in range(100)
        )
        UserTaskArtifact.objects.bulk_create(UserTaskArtifact(status=status, text="done") for status in statuses)
        url = path()
        headers = {"If-None-Match": answer(user, url)["ETag"]} if again else {}

        def get() -> None:
            assert answer(user, url, **headers).status_code == (304 if again else 200)

        return get

    return prepare


def answer(user: User, url: str, **headers: str) -> Any:
    request = APIRequestFactory().get(url, headers=headers)
    force_authenticate(request, user)
    view, args, kwargs = resolve(url.partition("?")[0])
    response = view(request, *args, **kwargs)
    return response.render() if hasattr(response, "render") else response


def status_path() -> str:
    return f"/tasks/{UserTaskStatus.objects.latest('pk').uuid}/"


def artifact_path() -> str:
    return f"/artifacts/{UserTaskArtifact.objects.latest('pk').uuid}/"


# fmt: off
BUDGETS = {
    #                               statements: there, at most, and here; commits; what is done
    "publish a task":                 Budget("3",          2,          2,      1, publishing(alone)),
    "publish a group of 5":           Budget("30 to 40",   (20, 15),   (5, 4), 1, publishing(group_of(5)), INSERTED),
    "publish a group of 50":          Budget("300 to 400", (200, 150), (5, 4), 1, publishing(group_of(50)), INSERTED),
    "publish 5 members one by one":   Budget("",           None,       (17, 16), 5, one_by_one(group_of(5)), INSERTED),
    "publish one member of a group":  Budget("6 to 8",     (4, 3),     3,      1, joining),
    "publish a chord of 5":           Budget("",           (20, 15),   (7, 5), 1, publishing(chord_of(5)), INSERTED),
    "publish a chord of 50":          Budget("",           (200, 150), (7, 5), 1, publishing(chord_of(50)), INSERTED),
    "publish a chain of 5":           Budget("15",         5,          (5, 4), 1, publishing(chain_of(5)), INSERTED),
    "publish a chain of 50":          Budget("150",        5,          (5, 4), 1, publishing(chain_of(50)), INSERTED),
    "run a task":                     Budget("7",          4,          2,      2, running(alone)),
    "run one that reads its status":  Budget("",           4,          3,      2, running(partial(alone, task=asking))),
    "run the first of a group":       Budget("",           6,          6,      3, running(group_of(5))),
    "run one inside a group":         Budget("7 or more",  6,          5,      2, running(group_of(5), after=2)),
    "run the last of a group":        Budget("",           None,       9,      3, running(group_of(5), after=4)),
    "run one in a chord's header":    Budget("7 or more",  7,          5,      2, running(chord_of(5), after=2)),
    "run a link, publish the next":   Budget("",           None,       6,      3, running(chain_of(5), after=2)),
    "a step":                         Budget("2 to 3",     (2, 1),     (2, 1), 1, stepping(alone), UPDATED),
    "a step in a group":              Budget("6",          2,          2,      1, stepping(group_of(5))),
    "a step in a chord's header":     Budget("9",          2,          2,      1, stepping(chord_of(5))),
    "a step, the status read for it": Budget("",           None,       (3, 2), 1, stepping(alone, held=False), UPDATED),
    "list 100 tasks":                 Budget("101",        4,          2,      0, getting(lambda: "/tasks/")),
    "list 100 artifacts":             Budget("",           4,          1,      0, getting(lambda: "/artifacts/")),
    "show a task":                    Budget("",           2,          2,      0, getting(status_path)),
    "show an artifact":               Budget("",           2,          1,      0, getting(artifact_path)),
    "show a task again":              Budget("",           1,          1,      0, getting(status_path, again=True)),
    "show an artifact again":         Budget("",           1,          1,      0, getting(artifact_path, again=True)),
}
"""What each operation costs, and may cost at most."""
# fmt: on


@pytest.fixture
def empty_queue() -> Iterator[None]:
    """The queue of this process, without what other tests have published."""
    with queue() as own:
        own.declare()
        own.purge()
    yield
    with queue() as own:
        own.purge()


@contextmanager
def queue() -> Iterator[Any]:
    with current_app.connection_for_read() as broker:
        yield current_app.amqp.queues[current_app.conf.task_default_queue](broker.default_channel)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("package_rules", "empty_queue")
@pytest.mark.parametrize("operation", BUDGETS)
def test_operations_cost_what_is_told_and_no_more_than_their_budget(owner: User, operation: str) -> None:
    budget = BUDGETS[operation]
    call = budget.prepare(owner)

    with CaptureQueriesContext(connection) as queries:
        call()

    log = [str(query["sql"]) for query in queries]
    statements = [sql for sql in log if sql.startswith(WORK)]
    here = budget.of_database(budget.statements)
    assert len(statements) == here, "\n".join(statements)
    assert commits(log) == budget.commits, "\n".join(log)
    assert budget.limit is None or here <= budget.of_database(budget.limit)


def commits(log: Iterable[str]) -> int:
    """Return how many transactions of a log wrote anything, those of a single statement among them."""
    found, writes, inside = 0, False, False
    for sql in log:
        writes = writes or sql.startswith(WORK[1:])
        inside = (inside or sql.startswith("BEGIN")) and not sql.startswith(("COMMIT", "ROLLBACK"))
        if not inside:
            found += writes
            writes = False
    return found


@dataclass(frozen=True)
class Plan:
    """How PostgreSQL reads a table of a year's rows."""

    index: str
    """What its plan names."""
    query: Callable[[User], Any]
    sorts: bool = False

    def explain(self, user: User) -> str:
        """Return what PostgreSQL says of the query, or of all queries of a call."""
        found = self.query(user)
        if not callable(found):
            return str(found.explain())
        with CaptureQueriesContext(connection) as queries:
            found()
        with connection.cursor() as cursor:
            return "\n".join(line for query in queries for line in explained(cursor, query["sql"]))


def explained(cursor: Any, sql: str) -> list[str]:
    cursor.execute(f"EXPLAIN {sql}")
    return [line for (line,) in cursor.fetchall()]


def newest(user: User, page: int = 1) -> Any:
    return UserTaskStatus.objects.visible_to(user).newest_first()[(page - 1) * 100 : page * 100 + 1]


def own(user: User) -> UserTaskStatusQuerySet:
    return UserTaskStatus.objects.roots().filter(user=user).newest_first()


def admins(model: type[UserTaskStatus | UserTaskArtifact], **query: str) -> Callable[[User], Any]:
    """Return what reads a list of the admin."""

    def changelist(_user: User) -> Any:
        request = RequestFactory().get("/", query)
        request.user = User(is_staff=True, is_superuser=True, is_active=True)
        found = site.get_model_admin(model).get_changelist_instance(request)
        return found.paginator.object_list[: found.list_per_page]

    return changelist


def listed(path: str, is_superuser: bool = False) -> Callable[[User], Call]:
    """Return what answers with a list of the API."""

    def prepare(user: User) -> Call:
        user.is_superuser = is_superuser
        return lambda: answered(user, path)

    return prepare


def answered(user: User, path: str) -> None:
    assert answer(user, path).status_code == 200


def purgeable(_user: User) -> Call:
    return partial(STATUSES.older_than(WEEK).roots().oldest_after, (now() - YEAR, 1), 1000)


def expirable(_user: User) -> Call:
    return partial(ARTIFACTS.stored_before(now() - WEEK).oldest_after, (now() - YEAR, 1), 500)


def names(_user: User) -> Call:
    return partial(ARTIFACTS.names_among, [f"user_tasks/2026/01/01/{number}.csv" for number in range(100)])


YEARS_AGO = "2001-01-01 00:00:00+00:00"
HOUR, WEEK, YEAR = timedelta(hours=1), timedelta(days=7), timedelta(days=365)
STATUSES, ARTIFACTS = UserTaskStatus.objects, UserTaskArtifact.objects

# fmt: off
PLANS = {
    #                               by the index, or key   what is read
    "my tasks":                Plan("status_of_user",      newest),
    "my tasks, far back":      Plan("status_of_user",      lambda user: newest(user, 40).values_list("pk")),
    "my running tasks":        Plan("status_running",      lambda user: own(user).unfinished()[:26], sorts=True),
    "my finished tasks":       Plan("status_of_user",      lambda user: own(user).finished()[:26]),
    "everybody's tasks":       Plan("status_newest",       lambda _: newest(User(is_superuser=True))),
    "silent tasks":            Plan("status_",             lambda _: STATUSES.silent_since(now() - HOUR)),
    "tasks in the queue":      Plan("status_overdue",      lambda _: STATUSES.overdue_since(now() - HOUR)),
    "waiting containers":      Plan("status_members",      lambda _: STATUSES.stranded_since(now() - HOUR)),
    "half ended containers":   Plan("status_parent_id",    lambda _: STATUSES.half_ended((CHAIN, CHORD))),
    "admin: tasks":            Plan("status_pkey",         admins(UserTaskStatus)),
    "admin: a common state":   Plan("status_pkey",         admins(UserTaskStatus, state="Succeeded")),
    "admin: a rare state":     Plan("status_overdue",      admins(UserTaskStatus, state="Retrying"), sorts=True),
    "admin: custom states":    Plan("status_",             admins(UserTaskStatus, state="custom"), sorts=True),
    "admin: a class":          Plan("status_class",        admins(UserTaskStatus, task_class="celery.chord")),
    "admin: since a date":     Plan("status_",             admins(UserTaskStatus, created__gte=YEARS_AGO)),
    "admin: a user":           Plan("status_",             admins(UserTaskStatus, q="user7"), sorts=True),
    "admin: a task ID":        Plan("task_id",             admins(UserTaskStatus, q="task-4711"), sorts=True),
    "admin: artifacts":        Plan("artifact_pkey",       admins(UserTaskArtifact)),
    "my artifacts":            Plan("artifact_",           listed("/artifacts/")),
    "everybody's artifacts":   Plan("artifact_newest",     listed("/artifacts/", is_superuser=True)),
    "what a purge takes":      Plan("status_newest",       purgeable),
    "files past their age":    Plan("artifact_",           expirable, sorts=True),
    "names of stored files":   Plan("(file = ANY",         names),
}
"""How lists are read, and what is to be done, from a table of a year."""
# fmt: on


@pytest.mark.services
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("package_rules")
def test_large_tables_are_read_by_their_indexes() -> None:
    assert connection.vendor == "postgresql", "Run this test with a DATABASE_URL of PostgreSQL."
    user = rows.fill(50_000, artifacts_every=1)

    plans = {what: plan.explain(user) for what, plan in PLANS.items()}

    assert not [text for text in plans.values() if "Seq Scan on user_tasks_" in text]
    assert not [text for what, text in plans.items() if PLANS[what].index not in text]
    assert not [text for what, text in plans.items() if "Sort" in text and not PLANS[what].sorts]


ROWS_VISITED = 10
"""Rows that PostgreSQL reads at most when a member of a group ends, its own among them, whatever the group's size."""


@pytest.mark.services
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_a_member_visits_no_other_when_it_ends(
    owner: User, make_container: Callable[..., UserTaskStatus], size: int
) -> None:
    rows.fill(20_000)
    container = make_container(GROUP, state="In Progress", total_steps=size)
    STATUSES.bulk_create(
        UserTaskStatus(
            user=owner, task_id=f"member{n}", task_class="shop.export", parent=container, total_steps=1, started=now()
        )
        for n in range(size)
    )
    STATUSES.filter(task_id__in=[f"member{n}" for n in range(size - 50)]).change(state="Succeeded", finished=now())
    with connection.cursor() as cursor:
        cursor.execute("VACUUM user_tasks_usertaskstatus")
    before = visited()

    for n in range(size - 50, size - 1):
        recording.succeeded(f"member{n}")

    assert (visited() - before) / 49 <= ROWS_VISITED
    recording.succeeded(f"member{size - 1}")
    assert STATUSES.get(pk=container.pk).state == "Succeeded"


def visited() -> int:
    """Return how many rows PostgreSQL has read so far, by an index or without."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'user_tasks_usertaskstatus'"
        )
        return int(cursor.fetchone()[0])
