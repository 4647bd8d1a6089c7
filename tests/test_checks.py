from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.backends import ModelBackend
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import override_settings
from pytest_django import Settings

from documents import DOCUMENTS, ROOT, code_blocks, executed
from user_tasks import checks
from user_tasks.checks import (
    FAIL_LOST,
    W001,
    check_lost_tasks_are_found,
    check_names_of_settings,
    check_permissions_for_objects,
    check_rules_are_registered,
    check_types_of_settings,
)
from user_tasks.conf import Defaults
from user_tasks.documentation import DOCUMENTATION
from user_tasks.rules import add_rules
from user_tasks.task_checks import check_all_tasks_take_user_id, check_tasks_take_user_id
from user_tasks.tasks import UserTask

pytestmark = pytest.mark.embedded

ENTRY = {"task": FAIL_LOST, "schedule": 60}


@pytest.fixture
def schedule() -> Any:
    """The function that sets the schedule of Celery's beat."""
    before = current_app.conf.beat_schedule
    yield lambda value: setattr(current_app.conf, "beat_schedule", value)
    current_app.conf.beat_schedule = before


@pytest.mark.parametrize("entries", [{}, {"other": {"task": "other", "schedule": 60}}, {"broken": None}])
def test_a_deployment_where_nobody_finds_lost_tasks_is_warned_about(schedule: Any, entries: dict[str, Any]) -> None:
    schedule(entries)

    assert check_lost_tasks_are_found() == [W001]
    assert W001 in run_checks(include_deployment_checks=True)
    assert W001 not in run_checks()


def test_a_schedule_in_the_settings_is_found(schedule: Any) -> None:
    schedule({"other": {"task": "other", "schedule": 60}, "lost": ENTRY})

    assert check_lost_tasks_are_found() == []


def test_the_warning_says_what_to_do_and_can_be_silenced(schedule: Any, capsys: pytest.CaptureFixture[str]) -> None:
    schedule({})
    call_command("check", deploy=True)
    assert "user_tasks.W001" in capsys.readouterr().err

    with override_settings(SILENCED_SYSTEM_CHECKS=["user_tasks.W001"]):
        call_command("check", deploy=True)
    assert "user_tasks.W001" not in capsys.readouterr().err


OBJECTS = "rules.permissions.ObjectPermissionBackend"
MODELS = "django.contrib.auth.backends.ModelBackend"


class OwnBackend(ModelBackend):
    """A project's backend that decides about objects by itself."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return True


class LoginBackend(ModelBackend):
    """A project's backend that has other ways to log in, and nothing to say about objects."""


OWN, LOGIN = f"{__name__}.OwnBackend", f"{__name__}.LoginBackend"


def found_ids(**options: Any) -> set[str]:
    return {str(message.id) for message in run_checks(**options) if str(message.id).startswith("user_tasks.")}


@pytest.mark.parametrize(
    ("backends", "without_rules", "with_rules"),
    [
        ([MODELS], {"user_tasks.W003"}, {"user_tasks.W003"}),
        ([LOGIN, MODELS], {"user_tasks.W003"}, {"user_tasks.W003"}),
        ([OBJECTS, MODELS], {"user_tasks.W004"}, set()),
        ([OBJECTS, LOGIN], {"user_tasks.W004"}, set()),
        ([OWN], set(), set()),
        ([OBJECTS, OWN], set(), set()),
    ],
)
def test_who_could_never_view_a_task_is_told(
    settings: Settings,
    rule_set: dict[str, Any],
    backends: list[str],
    without_rules: set[str],
    with_rules: set[str],
) -> None:
    settings.AUTHENTICATION_BACKENDS = backends

    rule_set.clear()
    assert found_ids() & {"user_tasks.W003", "user_tasks.W004"} == without_rules
    add_rules()
    assert found_ids() & {"user_tasks.W003", "user_tasks.W004"} == with_rules


def test_the_missing_lines_are_named(settings: Settings) -> None:
    settings.AUTHENTICATION_BACKENDS = [MODELS]

    (message,) = check_permissions_for_objects()

    assert message.hint is not None
    assert f'"{OBJECTS}",' in message.hint
    assert "user_tasks.rules.add_rules()" in message.hint


@pytest.mark.parametrize("backends", [["nowhere.Backend"], []])
def test_backends_that_cannot_be_loaded_are_left_to_django(settings: Settings, backends: list[str]) -> None:
    settings.AUTHENTICATION_BACKENDS = backends

    assert check_permissions_for_objects() == check_rules_are_registered() == []


class TakesNoUser(UserTask):
    """A task that nobody can trigger."""

    name = "test_checks.TakesNoUser"

    def run(self, label: str) -> None: ...


class TakesUser(UserTask):
    """A task as it should be."""

    name = "test_checks.TakesUser"

    def run(self, *, user_id: int) -> None: ...


class TakesAnything(UserTask):
    """A task that may be given a user."""

    name = "test_checks.TakesAnything"

    def run(self, **options: Any) -> None: ...


class TakesAnyNumber(UserTask):
    """A task that may be given a user among others."""

    name = "test_checks.TakesAnyNumber"

    def run(self, *values: Any) -> None: ...


@pytest.fixture
def tasks() -> Iterator[Callable[[type], None]]:
    """Return a function that registers a task for the time of the test."""
    registered: list[Any] = []

    def register(task_class: Any) -> None:
        if task_class.name not in current_app.tasks:
            registered.append(current_app.register_task(task_class()))

    yield register
    for task in registered:
        current_app.tasks.pop(task.name, None)


@pytest.mark.parametrize(
    ("task_class", "is_reported"),
    [(TakesNoUser, True), (TakesUser, False), (TakesAnything, False), (TakesAnyNumber, False)],
)
def test_tasks_without_a_user_are_reported(
    tasks: Callable[[type], None], task_class: type[UserTask], is_reported: bool
) -> None:
    tasks(task_class)

    reported = {message.obj for message in check_tasks_take_user_id()}
    assert (task_class.name in reported) is is_reported


def test_tasks_that_only_a_worker_loads_are_looked_at_before_a_deployment(
    tasks: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader: Any = current_app.loader
    monkeypatch.setattr(loader, "import_default_modules", lambda: tasks(TakesNoUser))

    assert [message.obj for message in check_all_tasks_take_user_id()] == [TakesNoUser.name]
    assert check_all_tasks_take_user_id() == []
    assert TakesNoUser.name in {message.obj for message in check_tasks_take_user_id()}


@pytest.mark.parametrize(
    ("alias", "is_reported"),
    [
        ("user_tasks_artifacts", True),
        ("user_task_artifact", True),
        ("USER_TASK_ARTIFACTS", False),
        ("user-task-artifacts", True),
        ("user_task_artifacts", False),
        ("avatars", False),
    ],
)
def test_a_misspelled_storage_is_reported(settings: Settings, alias: str, is_reported: bool) -> None:
    settings.STORAGES = {**settings.STORAGES, alias: {"BACKEND": "django.core.files.storage.InMemoryStorage"}}

    assert ("user_tasks.W005" in found_ids()) is is_reported


@pytest.mark.parametrize(
    ("path", "is_reported"),
    [
        (None, False),
        ("django.core.files.storage.InMemoryStorage", False),
        ("django.core.files.storage.MemoryStorage", True),
        ("django.core.files.storage.default_storage", True),
        ("default", True),
    ],
)
def test_a_storage_that_is_none_is_reported(settings: Settings, path: str | None, is_reported: bool) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = path

    assert ("user_tasks.W006" in found_ids()) is is_reported


FILTER = "user_tasks.filters.StatusFilterBackend"
SERIALIZER = "user_tasks.detailed.DetailedStatusSerializer"
WEEK = timedelta(days=7)

CLASSES: tuple[list[Any], list[Any]] = (
    [[FILTER], (OwnBackend,), []],
    [FILTER, ["user_tasks.filters.Nonsense"], [OwnBackend()], None],
)
CLASS: tuple[list[Any], list[Any]] = ([SERIALIZER, OwnBackend], ["Serializer", "nowhere.Serializer", None])
SWITCH: tuple[list[Any], list[Any]] = ([True, False], ["yes", 1, None])
SECONDS: tuple[list[Any], list[Any]] = ([0, 5, 0.5], [-1.0, True, "5", timedelta(seconds=5), None])
AGE: tuple[list[Any], list[Any]] = ([WEEK], [7, "7", None])
AGE_OR_NONE: tuple[list[Any], list[Any]] = ([WEEK, None], [7, "7", True])

VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "USER_TASKS_ARTIFACT_FILTERS": CLASSES,
    "USER_TASKS_STATUS_FILTERS": CLASSES,
    "USER_TASKS_STATUS_SERIALIZER": CLASS,
    "USER_TASKS_ARTIFACT_SERIALIZER": CLASS,
    "USER_TASKS_MAX_AGE": AGE,
    "USER_TASKS_ARTIFACT_STORAGE": (["django.core.files.storage.InMemoryStorage", None], [object(), 7]),
    "USER_TASKS_ARTIFACT_MAX_AGE": AGE_OR_NONE,
    "USER_TASKS_INLINE_TYPES": (
        [["application/pdf"], ("image/png", "text/plain"), {"image/gif"}, []],
        ["application/pdf", None, ["text/html"], [1], [["application/pdf"]]],
    ),
    "USER_TASKS_SENDFILE": SWITCH,
    "USER_TASKS_STRICT_PUBLISH": SWITCH,
    "USER_TASKS_RECORD_GROUPS": SWITCH,
    "USER_TASKS_PUBLISH_ON_COMMIT": SWITCH,
    "USER_TASKS_TRACK_SECONDS": SECONDS,
    "USER_TASKS_HEARTBEAT_SECONDS": SECONDS,
    "USER_TASKS_PENDING_LIMIT": AGE_OR_NONE,
    "USER_TASKS_LOST_AFTER": AGE,
}
"""For each setting, values that are right, and values that are wrong."""


@pytest.mark.parametrize("name", [name for name in vars(Defaults) if name.isupper()])
def test_a_setting_of_the_wrong_type_is_reported(settings: Settings, name: str) -> None:
    right, wrong = VALUES[name]
    for value in [getattr(Defaults, name), *right]:
        setattr(settings, name, value)
        assert check_types_of_settings() == []
    for value in wrong:
        setattr(settings, name, value)
        (message,) = check_types_of_settings()
        assert message.msg.startswith(f"{name} = {value!r}: ")


DOCUMENTED = [
    pytest.param(block.source, id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(code_blocks(path))
    if block.language == "python" and re.search(r"^(USER_TASKS_\w+|STORAGES) = ", block.source, re.MULTILINE)
]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filters that the documentation's settings name."""
    source = next(block for block in code_blocks(ROOT / "docs/authorization.rst") if block.caption == "shop/filters.py")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.filters", executed(source, "shop.filters"))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("source", DOCUMENTED)
def test_settings_in_the_documentation_are_right(settings: Settings, source: str) -> None:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    for name in filter(str.isupper, namespace):
        setattr(settings, name, namespace[name])

    assert not found_ids() & {f"user_tasks.W00{number}" for number in (5, 6, 7, 8)}


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("USER_TASK_MAX_AGE", "USER_TASKS_MAX_AGE"),
        ("USER_TASKS_STATUS_FILTER", "USER_TASKS_STATUS_FILTERS"),
        ("USER_TASKS_OF_OUR_SHOP", None),
    ],
)
def test_a_misspelled_setting_is_reported(settings: Settings, name: str, similar: str | None) -> None:
    setattr(settings, name, None)

    hints = [str(message.hint) for message in check_names_of_settings()]
    assert bool(hints) is (similar is not None)
    assert all(f"Did you mean {similar}?" in hint for hint in hints)


SOURCES = "".join((ROOT / "user_tasks" / name).read_text() for name in ("checks.py", "task_checks.py"))
NUMBERS = sorted(set(re.findall(r'id="user_tasks\.(W\d{3})"', SOURCES)))


def test_every_check_is_explained() -> None:
    explained = re.findall(
        r"^\.\. _(W\d{3}):\n\nuser_tasks\.(W\d{3}): .+\n-+\n", (ROOT / "docs" / "checks.rst").read_text(), re.MULTILINE
    )

    assert NUMBERS == [number for number, _ in explained] == [number for _, number in explained]


def test_every_hint_leads_to_its_section_of_the_documentation(
    settings: Settings, schedule: Any, rule_set: dict[str, Any], tasks: Callable[[type], None]
) -> None:
    schedule({})
    rule_set.clear()
    tasks(TakesNoUser)
    settings.USER_TASKS_ARTIFACT_STORAGE = "nowhere.Storage"
    settings.USER_TASKS_MAX_AGE = settings.USER_TASK_MAX_AGE = None
    settings.STORAGES = {**settings.STORAGES, "user_tasks_artifacts": {}}

    found = [checks.W009, *run_checks(include_deployment_checks=True)]
    settings.AUTHENTICATION_BACKENDS = [MODELS]
    found = [message for message in [*found, *run_checks()] if str(message.id).startswith("user_tasks.")]

    assert {str(message.id).removeprefix("user_tasks.") for message in found} == set(NUMBERS)
    for message in found:
        anchor = str(message.id).removeprefix("user_tasks.").lower()
        assert str(message.hint).endswith(f" See {DOCUMENTATION}/checks.html#{anchor}")


def test_the_index_of_packages_leads_to_the_same_documentation() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]

    assert urls == {"Documentation": f"{DOCUMENTATION}/", "Changelog": f"{DOCUMENTATION}/changelog.html"}
    assert (ROOT / "docs" / "changelog.rst").exists()


PROJECT = """
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_celery_beat", "user_tasks"],
    USE_TZ=True,
)
django.setup()
from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from user_tasks.checks import FAIL_LOST, check_lost_tasks_are_found

print(len(check_lost_tasks_are_found()))
call_command("migrate", verbosity=0)
print(len(check_lost_tasks_are_found()))
minutely = IntervalSchedule.objects.create(every=1, period="minutes")
entry = PeriodicTask.objects.create(name="lost", task=FAIL_LOST, interval=minutely)
print(len(check_lost_tasks_are_found()))
PeriodicTask.objects.update(enabled=False)
print(len(check_lost_tasks_are_found()))
"""


@pytest.mark.faults
def test_a_schedule_in_the_database_is_found_where_it_is_enabled() -> None:
    done = subprocess.run([sys.executable, "-c", PROJECT], check=True, capture_output=True, text=True, timeout=60)

    assert done.stdout.split() == ["1", "1", "0", "1"]


def store_artifacts(settings: Settings, backend: str, **options: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": {"BACKEND": backend, "OPTIONS": options}}


FILES = "django.core.files.storage.FileSystemStorage"
S3 = "storages.backends.s3.S3Storage"


@pytest.mark.parametrize(
    ("options", "is_public"),
    [(None, True), ({}, True), ({"location": "{media}/private"}, True), ({"location": "{media}-private"}, False)],
)
def test_files_among_the_media_are_warned_of(
    settings: Settings, tmp_path: Path, options: dict[str, str] | None, is_public: bool
) -> None:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    if options is not None:
        given = {name: value.format(media=settings.MEDIA_ROOT) for name, value in options.items()}
        store_artifacts(settings, FILES, **given)
    assert checks.check_files_are_private() == ([checks.W009] if is_public else [])


@pytest.mark.parametrize(
    ("name", "value"), [("MEDIA_ROOT", ""), ("MEDIA_ROOT", None), ("MEDIA_URL", ""), ("MEDIA_URL", None)]
)
def test_a_project_without_media_has_no_files_among_them(settings: Settings, name: str, value: str | None) -> None:
    store_artifacts(settings, FILES, location=str(Path.cwd() / "artifacts"))
    settings.MEDIA_ROOT = str(Path.cwd())
    assert checks.check_files_are_private() == [checks.W009]

    setattr(settings, name, value)
    assert checks.check_files_are_private() == []


def test_files_without_paths_are_nowhere_among_the_media(settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = "download_site.PathlessStorage"
    assert checks.check_files_are_private() == []


@pytest.mark.parametrize("path", ["nowhere.Storage", "django.core.files.storage.NoStorage", "collections.Counter"])
def test_a_storage_that_cannot_be_made_is_reported_by_its_own_check_alone(settings: Settings, path: str) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = path
    assert found_ids(include_deployment_checks=True) & {"user_tasks.W006", "user_tasks.W009"} == {"user_tasks.W006"}

    settings.USER_TASKS_ARTIFACT_STORAGE = None
    store_artifacts(settings, path)
    assert found_ids(include_deployment_checks=True) & {"user_tasks.W006", "user_tasks.W009"} == {"user_tasks.W006"}


def test_a_storage_that_refuses_its_options_stops_no_check(settings: Settings) -> None:
    store_artifacts(settings, FILES, nonsense=True)
    assert checks.check_files_are_private() == []


@pytest.mark.parametrize(("acl", "is_public"), [("public-read", True), ("private", False), (None, False)])
def test_files_that_a_bucket_shows_to_everybody_are_warned_of(
    settings: Settings, acl: str | None, is_public: bool
) -> None:
    store_artifacts(settings, S3, bucket_name="outputs", default_acl=acl)
    messages = checks.check_files_are_private()
    assert [message.id for message in messages] == ["user_tasks.W009"] * is_public
    assert all("'public-read'" in message.msg for message in messages)
