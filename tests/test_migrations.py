from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.validators import URLValidator
from django.db import connection, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from user_tasks.models import UserTaskArtifact, UserTaskStatus

ROOT = Path(__file__).resolve().parent.parent

STATUSES = "user_tasks_usertaskstatus"
ARTIFACTS = "user_tasks_usertaskartifact"

NAMES_OF_4 = (
    "0001_initial",
    "0002_artifact_file_storage",
    "0003_url_max_length",
    "0004_url_textfield",
    "0005_mariadb_uuid_conversion",
)

STATUS_COLUMNS_OF_4 = (
    "id",
    "created",
    "modified",
    "uuid",
    "task_id",
    "is_container",
    "task_class",
    "name",
    "state",
    "completed_steps",
    "total_steps",
    "attempts",
    "parent_id",
    "user_id",
)
ARTIFACT_COLUMNS_OF_4 = ("id", "created", "modified", "uuid", "name", "file", "url", "text", "status_id")

STATES = ("Pending", "In Progress", "Compressing", "Retrying", "Succeeded", "Failed", "Canceled")


def migrate(name: str | None) -> Any:
    """Migrate forward or backward to the migration of this name, or to none; return the models of then."""
    executor = MigrationExecutor(connection)
    executor.migrate([("user_tasks", name)])
    executor.loader.build_graph()
    return executor.loader.project_state([("user_tasks", name)] if name else []).apps


def migration_names() -> list[str]:
    return sorted(name for app, name in MigrationLoader(None).graph.nodes if app == "user_tasks")


def fields_after(name: str, model: str) -> Any:
    return MigrationLoader(None).project_state([("user_tasks", name)]).models["user_tasks", model].fields


def insert(table: str, **values: Any) -> None:
    """Insert a row with these columns and no others, the uuid as the 32 digits that 4.x wrote."""
    adapted = [as_parameter(value) for value in values.values()]
    columns = ", ".join(connection.ops.quote_name(column) for column in values)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(adapted))})", adapted)


def as_parameter(value: Any) -> Any:
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value.hex if isinstance(value, UUID) else value


def status_of_4(pk: int, user: User, **values: Any) -> dict[str, Any]:
    created = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC) + timedelta(minutes=pk)
    defaults = {
        "id": pk,
        "created": created,
        "modified": created + timedelta(seconds=7),
        "uuid": uuid4(),
        "task_id": str(uuid4()),
        "is_container": False,
        "task_class": "shop.tasks.export",
        "name": "Export of Ünïcode",
        "state": "Succeeded",
        "completed_steps": 32766,
        "total_steps": 32767,
        "attempts": 3,
        "parent_id": None,
        "user_id": user.pk,
    }
    return {**defaults, **values}


def artifact_of_4(pk: int, status: int, **values: Any) -> dict[str, Any]:
    created = datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)
    defaults = {
        "id": pk,
        "created": created,
        "modified": created,
        "uuid": uuid4(),
        "name": "Output",
        "file": None,
        "url": "",
        "text": "",
        "status_id": status,
    }
    return {**defaults, **values}


def rows(model: Any, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    return list(model._base_manager.order_by("id").values(*columns))


@pytest.fixture
def unmigrated(transactional_db: None) -> Iterator[None]:
    """A database without our tables, which are there again for the next test."""
    migrate(None)
    yield
    migrate(migration_names()[-1])


@pytest.fixture
def user_of_4(transactional_db: None) -> User:
    return User.objects.create_user("of_4")


@pytest.fixture
def statuses_of_4(user_of_4: User) -> list[dict[str, Any]]:
    single = [status_of_4(pk, user_of_4, state=state) for pk, state in enumerate(STATES, start=1)]
    chord = status_of_4(11, user_of_4, task_class="celery.chord", is_container=True, state="In Progress")
    group = status_of_4(12, user_of_4, task_class="celery.group", is_container=True, state="In Progress", parent_id=11)
    done = status_of_4(13, user_of_4, parent_id=12)
    running = status_of_4(14, user_of_4, parent_id=12, state="In Progress")
    body = status_of_4(15, user_of_4, parent_id=11, state="Pending", completed_steps=0)
    return [*single, chord, group, done, running, body]


@pytest.fixture
def artifacts_of_4() -> list[dict[str, Any]]:
    return [
        artifact_of_4(1, 5, file="user_tasks/2025/02/03/export.csv"),
        artifact_of_4(2, 5, url="https://example.com/" + "x" * 2000),
        artifact_of_4(3, 6, name="Error", text="☠" * 5000),
    ]


@pytest.fixture
def database_of_4(unmigrated: None, statuses_of_4: list[dict[str, Any]], artifacts_of_4: list[dict[str, Any]]) -> None:
    """The tables as 4.x left them before its own last migration, with rows that it wrote."""
    migrate("0004_url_textfield")
    if connection.vendor == "mysql" and connection.features.has_native_uuid_field:
        with connection.cursor() as cursor:
            for table in (STATUSES, ARTIFACTS):
                cursor.execute(f"ALTER TABLE {table} MODIFY uuid char(32) NOT NULL")
    for status in statuses_of_4:
        insert(STATUSES, **status)
    for artifact in artifacts_of_4:
        insert(ARTIFACTS, **artifact)


def stored_uuids(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT uuid FROM {table} ORDER BY id")
        return [str(value) for (value,) in cursor.fetchall()]


def unique_columns(table: str) -> set[str]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table).values()
    return {column for constraint in constraints if constraint["unique"] for column in constraint["columns"]}


def test_migrations_of_4_keep_their_names() -> None:
    assert tuple(migration_names()[:5]) == NAMES_OF_4


def test_models_after_0005_are_those_of_4() -> None:
    status = fields_after(NAMES_OF_4[-1], "usertaskstatus")
    artifact = fields_after(NAMES_OF_4[-1], "usertaskartifact")
    for counter in ("completed_steps", "total_steps", "attempts"):
        assert type(status[counter]) is models.PositiveSmallIntegerField
    assert type(status["id"]) is type(artifact["id"]) is models.AutoField
    assert type(artifact["url"]) is models.TextField
    assert [type(validator) for validator in artifact["url"].validators] == [URLValidator]


def test_url_had_room_for_512_characters_after_0003() -> None:
    url = fields_after("0003_url_max_length", "usertaskartifact")["url"]
    assert type(url) is models.URLField
    assert url.max_length == 512


def test_rows_of_4_are_kept(
    database_of_4: None, statuses_of_4: list[dict[str, Any]], artifacts_of_4: list[dict[str, Any]]
) -> None:
    migrate(migration_names()[-1])
    assert rows(UserTaskStatus, STATUS_COLUMNS_OF_4) == statuses_of_4
    assert rows(UserTaskArtifact, ARTIFACT_COLUMNS_OF_4) == artifacts_of_4
    assert unique_columns(STATUSES) >= {"uuid", "task_id"}
    assert unique_columns(ARTIFACTS) >= {"uuid"}


def test_rows_of_4_are_found_by_their_uuid(
    database_of_4: None, statuses_of_4: list[dict[str, Any]], artifacts_of_4: list[dict[str, Any]]
) -> None:
    migrate(migration_names()[-1])
    assert [UserTaskStatus.objects.get(uuid=row["uuid"]).pk for row in statuses_of_4] == [
        row["id"] for row in statuses_of_4
    ]
    assert [UserTaskArtifact.objects.get(uuid=row["uuid"]).pk for row in artifacts_of_4] == [1, 2, 3]


def test_what_4_finished_is_at_rest(database_of_4: None) -> None:
    migrate(migration_names()[-1])
    at_rest = UserTaskStatus.objects.exclude(pk__in=UserTaskStatus.objects.unfinished()).values_list("state")
    assert set(at_rest) == {("Succeeded",), ("Failed",), ("Canceled",)}


def test_what_4_began_is_brought_to_its_end(database_of_4: None) -> None:
    migrate(migration_names()[-1])
    UserTaskStatus.objects.get(pk=14).succeed()
    assert UserTaskStatus.objects.get(pk=12).state == "Succeeded"
    assert UserTaskStatus.objects.get(pk=11).state == "In Progress"
    UserTaskStatus.objects.get(pk=15).succeed()
    assert UserTaskStatus.objects.get(pk=11).state == "Succeeded"


@pytest.mark.parametrize("target", ["0005_mariadb_uuid_conversion", "0004_url_textfield"])
def test_rows_survive_the_way_back(
    database_of_4: None,
    statuses_of_4: list[dict[str, Any]],
    artifacts_of_4: list[dict[str, Any]],
    target: str,
) -> None:
    migrate(migration_names()[-1])
    old = migrate(target)
    without_uuid = tuple(column for column in STATUS_COLUMNS_OF_4 if column != "uuid")
    assert rows(old.get_model("user_tasks", "UserTaskStatus"), without_uuid) == [
        {column: row[column] for column in without_uuid} for row in statuses_of_4
    ]
    assert [UUID(value) for value in stored_uuids(STATUSES)] == [row["uuid"] for row in statuses_of_4]
    assert [UUID(value) for value in stored_uuids(ARTIFACTS)] == [row["uuid"] for row in artifacts_of_4]
    assert unique_columns(STATUSES) >= {"uuid", "task_id"}


def test_counters_too_wide_for_4_are_cut_on_the_way_back(unmigrated: None, user_of_4: User) -> None:
    migrate(migration_names()[-1])
    UserTaskStatus.objects.create(
        user=user_of_4, task_id="wide", completed_steps=-1, total_steps=100_000, attempts=40_000
    )
    old = migrate(NAMES_OF_4[-1]).get_model("user_tasks", "UserTaskStatus")
    assert old._base_manager.values_list("completed_steps", "total_steps", "attempts").get() == (
        0,
        32767,
        32767,
    )


@pytest.mark.parametrize(("target", "length"), [("0003_url_max_length", 512), ("0002_artifact_file_storage", 200)])
def test_urls_too_long_for_older_versions_are_cut_on_the_way_back(
    database_of_4: None, artifacts_of_4: list[dict[str, Any]], target: str, length: int
) -> None:
    old = migrate(target).get_model("user_tasks", "UserTaskArtifact")
    urls = [row["url"] for row in rows(old, ("url",))]
    assert urls == [row["url"][:length] for row in artifacts_of_4]


def test_tables_are_gone_at_zero(database_of_4: None) -> None:
    migrate(migration_names()[-1])
    migrate(None)
    assert not {STATUSES, ARTIFACTS} & set(connection.introspection.table_names())


def test_processes_of_4_insert_into_the_migrated_tables(unmigrated: None, user_of_4: User) -> None:
    migrate(migration_names()[-1])
    status, artifact = status_of_4(1, user_of_4), artifact_of_4(1, 1)
    assert (tuple(status), tuple(artifact)) == (STATUS_COLUMNS_OF_4, ARTIFACT_COLUMNS_OF_4)
    insert(STATUSES, **status)
    insert(ARTIFACTS, **artifact)
    assert rows(UserTaskStatus, STATUS_COLUMNS_OF_4) == [status]
    assert rows(UserTaskArtifact, ARTIFACT_COLUMNS_OF_4) == [artifact]


def test_models_of_4_work_on_the_migrated_tables(unmigrated: None, user_of_4: User) -> None:
    models_of_4 = migrate(NAMES_OF_4[-1])
    migrate(migration_names()[-1])
    model = models_of_4.get_model("user_tasks", "UserTaskStatus")
    old = model._base_manager.create(user_id=user_of_4.pk, task_id="old", total_steps=2)
    old.state = "In Progress"
    old.save()
    assert UserTaskStatus.objects.get(task_id="old").state == "In Progress"


def test_0005_changes_only_what_is_not_native_yet(unmigrated: None) -> None:
    migrate("0004_url_textfield")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        migrate(NAMES_OF_4[-1])
    assert not [query["sql"] for query in queries if "ALTER TABLE" in query["sql"]]


def structure() -> Any:
    with connection.cursor() as cursor:
        return [
            introspect(cursor, table)
            for table in (STATUSES, ARTIFACTS)
            for introspect in (connection.introspection.get_constraints, connection.introspection.get_table_description)
        ]


INDEXING = ("0011_indexes", "0013_more_indexes", "0016_index_of_files")


def test_indexing_that_was_interrupted_can_be_done_again(unmigrated: None) -> None:
    for name in INDEXING:
        migrate(name)
        whole = structure()
        MigrationRecorder(connection).record_unapplied("user_tasks", name)
        migrate(name)
        assert structure() == whole


def printed(name: str) -> str:
    output = StringIO()
    call_command("sqlmigrate", "user_tasks", name, stdout=output)
    return output.getvalue()


def test_sql_of_indexes_can_be_printed_before_and_after(unmigrated: None) -> None:
    before = list(map(printed, INDEXING))
    migrate(migration_names()[-1])
    assert list(map(printed, INDEXING)) == before
    assert all("CREATE INDEX" in sql for sql in before)


def test_cancel_permission_is_there_to_be_granted(db: None) -> None:
    permissions = Permission.objects.filter(content_type__app_label="user_tasks")
    assert permissions.filter(codename="cancel_usertaskstatus").exists()


PEOPLE = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
"""

SETTINGS = {
    "storage class": "USER_TASKS_ARTIFACT_STORAGE = 'django.core.files.storage.InMemoryStorage'",
    "storage alias": """
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "user_task_artifacts": {
        "BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": "/elsewhere"},
    },
}
""",
    "automatic keys": "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'",
    "language": "LANGUAGE_CODE = 'de'",
    "user model": "INSTALLED_APPS += ['people']\nAUTH_USER_MODEL = 'people.Person'",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an app whose users have uuids as their keys."""
    people = tmp_path / "people"
    people.mkdir()
    (people / "__init__.py").touch()
    (people / "models.py").write_text(PEOPLE, encoding="utf-8")
    return tmp_path


def run(project: Path, settings: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python process on the settings of the tests with these changes and an SQLite file of its own."""
    (project / "project_settings.py").write_text(f"from test_settings import *\n{settings}\n", encoding="utf-8")
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{project / 'project.db'}",
        "DJANGO_SETTINGS_MODULE": "project_settings",
        "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)]),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_no_settings_make_a_migration_necessary(project: Path, settings: str) -> None:
    result = run(project, settings, str(ROOT / "manage.py"), "makemigrations", "user_tasks", "--check", "--dry-run")
    assert (result.returncode, result.stdout) == (0, "No changes detected in app 'user_tasks'\n")


WITH_UUID_USERS = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from user_tasks.models import UserTaskStatus

call_command("makemigrations", "people", verbosity=0)
call_command("migrate", verbosity=0)
person = get_user_model().objects.create_user("ada")
UserTaskStatus.objects.create(user=person, task_id="1", total_steps=1)
assert UserTaskStatus.objects.get(user=person.pk).user == person
"""


def test_users_may_have_any_kind_of_key(project: Path) -> None:
    result = run(project, SETTINGS["user model"], "-c", WITH_UUID_USERS)
    assert result.returncode == 0, result.stderr
