from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from documents import ROOT
from test_purge_command import NO_AGES
from user_tasks import reports, user_task_stopped
from user_tasks.models import UserTaskArtifact, UserTaskStatus

MakeStatus = Callable[..., UserTaskStatus]

FIRST = datetime.min.replace(tzinfo=UTC)


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("user_tasks", *arguments, stdout=output)
    return output.getvalue()


def data(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def group(make_status: MakeStatus, make_container: MakeStatus) -> UserTaskStatus:
    """A group of three tasks, one of which has failed."""
    group = make_container("celery.group", name="All tables", state="In Progress")
    for number in range(3):
        make_status(parent=group, name=f"Table {number}")
    group.refresh_from_db()
    status = UserTaskStatus.objects.get(name="Table 1")
    UserTaskArtifact.objects.create(status=status, name="Rows", text="1,204\nrows")
    return group


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["All tables", "Other", "Import", "Export"]),
        (("--limit", "2"), ["All tables", "Other"]),
        (("--state", "Failed"), ["Import"]),
        (("--state", "In Progress"), ["All tables", "Other"]),
        (("--user", "owner"), ["All tables", "Import", "Export"]),
        (("--task-class", "shop.import"), ["Import"]),
        (("--task-class", "shop.export", "--all"), ["Table 2", "Table 1", "Table 0", "Other", "Export"]),
    ],
)
def test_the_newest_tasks_are_listed(
    make_status: MakeStatus,
    make_user: Callable[..., User],
    request: pytest.FixtureRequest,
    arguments: tuple[str, ...],
    names: list[str],
) -> None:
    make_status(name="Export")
    make_status(name="Import", task_class="shop.import", state="Failed")
    make_status(name="Other", user=make_user(), state="Compressing")
    request.getfixturevalue("group")

    assert [row["name"] for row in data("list", *arguments)] == names
    lines = run("list", *arguments).splitlines()
    assert lines[0].split() == ["uuid", "state", "steps", "user", "created", "name"]
    assert [line.endswith(name) for line, name in zip(lines[1:], names, strict=True)] == [True] * len(names)


@pytest.mark.parametrize("option", ["--state", "--task-class"])
def test_an_empty_option_does_not_list_everything(make_status: MakeStatus, option: str) -> None:
    make_status()

    assert data("list", option, "") == []


@pytest.mark.parametrize("arguments", [("list", "--limit"), ("show", "{id}", "--members")])
def test_a_limit_may_be_beyond_what_databases_count(group: UserTaskStatus, arguments: tuple[str, ...]) -> None:
    assert "All tables" in run(*(argument.format(id=group.uuid) for argument in arguments), "9" * 19)


def test_a_list_is_read_with_one_query(group: UserTaskStatus) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert len(data("list", "--all")) == 4
    assert len(queries) == 1


def test_a_user_may_be_named_by_the_primary_key(make_status: MakeStatus, owner: User) -> None:
    make_status()
    assert len(data("list", "--user", str(owner.pk))) == 1
    assert data("list")[0]["user"] == "owner"


def test_nothing_steers_the_terminal(make_status: MakeStatus) -> None:
    status = make_status(name="\x1b[2Jgone\nnext", state="\x1b[31mred")

    for output in (run("list"), run("show", str(status.uuid))):
        assert "\x1b" not in output
        assert " [2Jgone next" in output


@pytest.mark.parametrize("field", ["uuid", "task_id"])
def test_a_tree_is_shown_with_its_outputs(group: UserTaskStatus, field: str) -> None:
    lines = run("show", str(getattr(group, field))).splitlines()

    assert [line.split("  ")[0] for line in lines[:1]] == ["All tables"]
    assert [line.strip().split("  ")[0] for line in lines[1:]] == ["Table 0", "Table 1", "Rows: 1,204 rows", "Table 2"]
    tree = data("show", str(getattr(group, field)))
    assert [member["name"] for member in tree["members"]] == ["Table 0", "Table 1", "Table 2"]
    assert tree["members"][1]["artifacts"] == [
        {"name": "Rows", "text": "1,204\nrows", "text_length": 10, "url": "", "file": ""}
    ]
    assert tree["total_steps"] == 3
    assert tree["members_left_out"] == 0


def test_of_a_large_container_the_first_members_are_shown(group: UserTaskStatus) -> None:
    output = run("show", str(group.uuid), "--members", "2")

    assert "Table 1" in output
    assert "Table 2" not in output
    assert output.endswith("  and 1 more\n")


def test_of_each_task_the_first_outputs_are_shown(group: UserTaskStatus) -> None:
    members = list(UserTaskStatus.objects.filter(parent=group).order_by("pk"))
    UserTaskArtifact.objects.bulk_create(
        UserTaskArtifact(status=members[0], name=f"Part {number}", text="x") for number in range(103)
    )

    lines = [line.strip() for line in run("show", str(group.uuid)).splitlines()]
    assert lines[1].startswith("Table 0")
    assert lines[2:102] == [f"Part {number}: x" for number in range(100)]
    assert lines[102] == "and 3 more"
    assert [node["artifacts_left_out"] for node in data("show", str(group.uuid))["members"]] == [3, 0, 0]


def test_of_a_long_text_the_start_is_read(make_status: MakeStatus) -> None:
    status = make_status()
    UserTaskArtifact.objects.create(status=status, text="x" * 10_001)

    with CaptureQueriesContext(connection) as queries:
        (artifact,) = data("show", str(status.uuid))["artifacts"]

    assert (len(artifact["text"]), artifact["text_length"]) == (10_000, 10_001)
    column = connection.ops.quote_name("text")
    assert not [query["sql"] for query in queries if re.search(f"{column} (AS|FROM)", query["sql"])]


@pytest.mark.parametrize("size", [3, 40])
def test_a_tree_is_read_with_as_many_queries_however_large_it_is(
    make_status: MakeStatus, make_container: MakeStatus, size: int
) -> None:
    chord = make_container("celery.chord")
    for container in (make_container("celery.group", parent=chord), make_container("celery.group", parent=chord)):
        for _number in range(size):
            UserTaskArtifact.objects.create(status=make_status(parent=container))

    with CaptureQueriesContext(connection) as queries:
        tree = data("show", str(chord.uuid))

    assert [len(member["members"]) for member in tree["members"]] == [size, size]
    assert len(queries) == 6


def test_more_are_read_than_one_query_can_name(monkeypatch: pytest.MonkeyPatch, group: UserTaskStatus) -> None:
    monkeypatch.setattr(reports, "READ_AT_ONCE", 2)

    tree = data("show", str(group.uuid))

    assert [member["name"] for member in tree["members"]] == ["Table 0", "Table 1", "Table 2"]
    assert [len(member["artifacts"]) for member in tree["members"]] == [0, 1, 0]


@pytest.mark.parametrize(
    ("state", "code"), [("Succeeded", 0), ("Failed", 4), ("Canceled", 5), ("Pending", 3), ("Compressing", 3)]
)
def test_the_state_is_told_by_the_exit_code_on_demand(make_status: MakeStatus, state: str, code: int) -> None:
    status = make_status(state=state)

    run("show", str(status.uuid))
    with pytest.raises(SystemExit) as ended:
        run("show", str(status.uuid), "--exit-code")
    assert ended.value.code == code


def test_tasks_are_canceled(group: UserTaskStatus, make_status: MakeStatus, revoked: list[str]) -> None:
    status = make_status(state="Succeeded")

    outcomes = data("cancel", str(group.uuid), status.task_id)

    assert [(outcome["state"], outcome["ended_before"]) for outcome in outcomes] == [
        ("Canceled", False),
        ("Succeeded", True),
    ]
    assert len(revoked) == 3
    assert not UserTaskStatus.objects.filter(parent=group).exclude(state="Canceled").exists()


@pytest.mark.usefixtures("replica")
def test_what_to_cancel_is_read_where_it_is_written(make_status: MakeStatus) -> None:
    assert data("cancel", str(make_status().uuid))[0]["state"] == "Canceled"


def test_where_nothing_is_left_to_cancel_the_exit_code_says_so(make_status: MakeStatus) -> None:
    status, output = make_status(state="Failed"), StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("user_tasks", "cancel", str(status.uuid), stdout=output)

    assert ended.value.code == 3
    assert output.getvalue() == f"{status.uuid}  Failed before\n"


@contextmanager
def told_of_each_end(receiver: Callable[..., object]) -> Iterator[None]:
    user_task_stopped.connect(receiver)
    yield
    user_task_stopped.disconnect(receiver)


def test_a_task_that_ends_after_it_was_looked_up_had_ended_before(make_status: MakeStatus) -> None:
    first, second = make_status(), make_status()

    def succeed_meanwhile(status: UserTaskStatus, **_: Any) -> None:
        if status.pk == first.pk:
            second.succeed()

    with told_of_each_end(succeed_meanwhile):
        outcomes = data("cancel", str(first.uuid), str(second.uuid))

    assert [(outcome["state"], outcome["ended_before"]) for outcome in outcomes] == [
        ("Canceled", False),
        ("Succeeded", True),
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interruption_does_not_hide_what_has_been_canceled(make_status: MakeStatus, options: list[str]) -> None:
    first, second = make_status(), make_status()
    output = StringIO()

    def interrupt(status: UserTaskStatus, **_: Any) -> None:
        if status.pk == second.pk:
            raise KeyboardInterrupt

    with told_of_each_end(interrupt), pytest.raises(KeyboardInterrupt):
        call_command("user_tasks", "cancel", str(first.uuid), str(second.uuid), *options, stdout=output)

    assert str(first.uuid) in output.getvalue()
    assert str(second.uuid) not in output.getvalue()


def test_nothing_is_canceled_if_one_of_the_ids_is_unknown(make_status: MakeStatus) -> None:
    status = make_status()

    with pytest.raises(CommandError, match="no task with the id 'nonsense'"):
        run("cancel", str(status.uuid), "nonsense")
    status.refresh_from_db()
    assert status.state == "Pending"


def test_a_running_task_is_terminated_on_demand(make_status: MakeStatus, revoked: list[str]) -> None:
    status = make_status(state="In Progress", started=timezone.now())

    run("cancel", str(status.uuid))
    assert not revoked
    other = make_status(state="In Progress", started=timezone.now())
    run("cancel", "--terminate", str(other.uuid))
    assert revoked == [other.task_id]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", str(uuid4())),
        ("show", "nonsense"),
        ("list", "--user", "nobody"),
        ("list", "--user", "99"),
        ("list", "--user", ""),
    ],
)
@pytest.mark.django_db
def test_what_is_not_there_is_an_error(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="There is no"):
        run(*arguments)


def test_tasks_are_counted_and_timed(make_status: MakeStatus, group: UserTaskStatus) -> None:
    now = timezone.now()
    UserTaskStatus.objects.filter(parent=group).update(due=now - timedelta(seconds=90))
    for seconds in (10, 20):
        make_status(
            state="Succeeded",
            created=now - timedelta(seconds=100),
            due=now - timedelta(seconds=60),
            started=now - timedelta(seconds=50),
            finished=now - timedelta(seconds=50 - seconds),
        )
    make_status(state="Succeeded", created=now - timedelta(days=3))

    statistics = data("stats")

    assert [(line["task_class"], line["state"], line["count"]) for line in statistics["tasks"]] == [
        ("shop.export", "Pending", 3),
        ("shop.export", "Succeeded", 2),
    ]
    succeeded = statistics["tasks"][1]
    assert succeeded["run_average_seconds"] == pytest.approx(15, abs=0.01)
    assert succeeded["run_longest_seconds"] == pytest.approx(20, abs=0.01)
    assert succeeded["wait_average_seconds"] == pytest.approx(10, abs=0.01)
    assert 90 <= statistics["longest_waiting_seconds"] < 150
    lines = run("stats", "--since", "P4D").splitlines()
    assert lines[2].split() == ["shop.export", "Succeeded", "3", "10.0", "s", "15.0", "s", "20.0", "s"]
    assert "does so for 9" in lines[3]


@pytest.mark.django_db
def test_statistics_of_nothing_are_empty() -> None:
    assert data("stats", "--since", "0.5") == {"seconds": 43200, "longest_waiting_seconds": None, "tasks": []}


@pytest.mark.django_db
def test_statistics_may_reach_back_almost_to_the_first_day() -> None:
    assert data("stats", "--since", str((datetime.now(UTC) - FIRST).days - 2))["tasks"] == []


@pytest.mark.parametrize("age", NO_AGES)
def test_statistics_of_what_is_no_age_are_refused(age: str) -> None:
    with pytest.raises(CommandError, match="is no age"):
        run("stats", f"--since={age}")


@pytest.mark.embedded
@pytest.mark.parametrize("arguments", [("list", "--limit", "0"), ("stats", "--since", "soon"), ("nonsense",), ()])
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "manage.py", "user_tasks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)

    assert done.returncode == 2
