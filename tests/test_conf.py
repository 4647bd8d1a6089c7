from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, default_storage
from pytest_django import Settings

from user_tasks import conf
from user_tasks.filters import ArtifactFilterBackend, StatusFilterBackend
from user_tasks.models import UserTaskArtifact, UserTaskStatus

pytestmark = pytest.mark.embedded

IN_MEMORY = "django.core.files.storage.InMemoryStorage"
IN_FILES = "django.core.files.storage.FileSystemStorage"


@pytest.fixture
def changed_on_object() -> Iterator[Any]:
    """The settings object, freed afterwards of what a test set on it."""
    yield conf.settings
    vars(conf.settings).clear()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("USER_TASKS_ARTIFACT_FILTERS", (ArtifactFilterBackend,)),
        ("USER_TASKS_STATUS_FILTERS", (StatusFilterBackend,)),
        ("USER_TASKS_MAX_AGE", timedelta(days=30)),
        ("USER_TASKS_ARTIFACT_STORAGE", None),
        ("USER_TASKS_STRICT_PUBLISH", False),
        ("USER_TASKS_LOST_AFTER", timedelta(minutes=5)),
    ],
)
def test_default(name: str, default: Any) -> None:
    assert getattr(conf.settings, name) == default


@pytest.mark.parametrize("name", [name for name in vars(conf.Defaults) if name.isupper()])
def test_setting_is_read_live(settings: Settings, name: str) -> None:
    setattr(settings, name, ())
    assert getattr(conf.settings, name) == ()
    delattr(settings, name)
    assert getattr(conf.settings, name) != ()


@pytest.mark.parametrize("name", ["USER_TASKS_ARTIFACT_FILTERS", "USER_TASKS_STATUS_FILTERS"])
def test_filters_are_classes_or_dotted_paths(settings: Settings, name: str) -> None:
    setattr(settings, name, [StatusFilterBackend, "user_tasks.filters.ArtifactFilterBackend"])
    assert getattr(conf.settings, name) == (StatusFilterBackend, ArtifactFilterBackend)


def test_other_settings_are_those_of_django(settings: Settings) -> None:
    settings.SECRET_KEY = "changed"
    assert conf.settings.SECRET_KEY == "changed"


def test_unknown_setting_is_named_by_the_error() -> None:
    with pytest.raises(AttributeError, match="USER_TASKS_NONSENSE"):
        _ = conf.settings.USER_TASKS_NONSENSE


def test_any_attribute_can_be_set(changed_on_object: Any) -> None:
    an_hour, nothing = timedelta(hours=1), dict[str, Any]()
    changed_on_object.USER_TASKS_LOST_AFTER, changed_on_object.STORAGES = an_hour, nothing
    assert conf.settings.USER_TASKS_LOST_AFTER is an_hour
    assert conf.settings.STORAGES is nothing


def test_storage_is_the_default_one_unless_named() -> None:
    assert conf.get_storage() is conf.artifact_storage() is default_storage


def test_storage_at_an_import_path() -> None:
    assert isinstance(conf.get_storage(IN_MEMORY), InMemoryStorage)
    assert conf.get_storage(IN_MEMORY) is conf.get_storage(IN_MEMORY)


def test_storage_of_the_alias_goes_before_the_import_path(settings: Settings, tmp_path: Path) -> None:
    options = {"location": str(tmp_path), "base_url": "/elsewhere/"}
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": {"BACKEND": IN_FILES, "OPTIONS": options}}
    storage = conf.get_storage(IN_MEMORY)
    assert isinstance(storage, FileSystemStorage)
    assert (storage.location, storage.base_url) == (str(tmp_path), "/elsewhere/")


def test_storage_is_built_from_an_entry_that_django_does_not_have(changed_on_object: Any, tmp_path: Path) -> None:
    changed_on_object.STORAGES = {"user_task_artifacts": {"BACKEND": IN_FILES, "OPTIONS": {"location": str(tmp_path)}}}
    storage = conf.get_storage()
    assert isinstance(storage, FileSystemStorage)
    assert storage.location == str(tmp_path)


def test_setting_names_the_storage_of_artifacts(settings: Settings) -> None:
    artifact = UserTaskArtifact(status=UserTaskStatus())
    assert artifact.file.storage is default_storage
    settings.USER_TASKS_ARTIFACT_STORAGE = IN_MEMORY
    assert isinstance(UserTaskArtifact(status=UserTaskStatus()).file.storage, InMemoryStorage)


def test_artifacts_are_written_to_the_storage_of_the_alias(
    settings: Settings, tmp_path: Path, make_status: Any
) -> None:
    entry = {"BACKEND": IN_FILES, "OPTIONS": {"location": str(tmp_path), "base_url": "/elsewhere/"}}
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": entry}
    artifact = UserTaskArtifact(status=make_status(), name="Output")
    artifact.file.save(name="export.csv", content=ContentFile(b"1;2"))
    stored = UserTaskArtifact.objects.get()
    assert [path.read_bytes() for path in tmp_path.rglob("*.csv")] == [b"1;2"]
    storage = stored.file.storage
    assert isinstance(storage, FileSystemStorage)
    assert storage.location == str(tmp_path)
    assert stored.file.url == f"/elsewhere/{stored.file.name}"
    with stored.file.open() as file:
        assert file.read() == b"1;2"
