from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.db.models.signals import post_delete, pre_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from storages.utils import get_available_overwrite_name

from user_tasks import lifetimes, orphans, removal, stored_files
from user_tasks.conf import artifact_storage
from user_tasks.models import UserTaskArtifact, UserTaskStatus

pytestmark = pytest.mark.django_db(transaction=True)

MakeStatus = Callable[..., UserTaskStatus]
MakeFile = Callable[..., UserTaskArtifact]


class StubbornStorage(FileSystemStorage):
    """Removes nothing."""

    def delete(self, name: str) -> None:
        raise OSError("The bucket is locked.")


class BlindStorage(FileSystemStorage):
    """Cannot list its files."""

    def listdir(self, path: str) -> Any:
        raise NotImplementedError


class NamedMeanwhileStorage(FileSystemStorage):
    """Lists the folder named "last" last; by then a row of the only status has come to name the only file."""

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        if path.endswith("last"):
            name = files(Path(self.location))[0]
            UserTaskArtifact.objects.create(status=UserTaskStatus.objects.get(), file=name)
        folders, found = super().listdir(path)
        return sorted(folders), found


class OverwritingStorage(FileSystemStorage):
    """Gives each file the name that it is asked for, as object stores do."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: Any) -> str:
        self.delete(name)
        stored: str = super()._save(name, content)  # type: ignore[misc]  # is not in the stubs
        return stored


class CuttingStorage(OverwritingStorage):
    """Shortens what is too long as django-storages does."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        found: str = get_available_overwrite_name(name, max_length)
        return found


class FlatStorage(FileSystemStorage):
    """Has no folders."""

    def generate_filename(self, filename: Any) -> str:
        return Path(filename).name


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = str(tmp_path)
    return tmp_path


@pytest.fixture
def make_file(make_status: MakeStatus) -> MakeFile:
    """Return a factory of artifacts with a file, by default of a status that is past its age."""

    def make(status: UserTaskStatus | None = None, data: bytes = b"content", **fields: Any) -> UserTaskArtifact:
        status = status or make_status(state="Succeeded", created=timezone.now() - timedelta(days=31))
        artifact = UserTaskArtifact(status=status, **fields)
        artifact.file.save("table.csv", ContentFile(data))
        return artifact

    return make


def files(media: Path) -> list[str]:
    return sorted(path.relative_to(media).as_posix() for path in media.rglob("*") if path.is_file())


def hear(**_: Any) -> None:
    """Listen as a project does that wants to be told of each deletion."""


@contextmanager
def heard(sender: type[models.Model]) -> Iterator[None]:
    pre_delete.connect(hear, sender=sender)
    post_delete.connect(hear, sender=sender)
    yield
    pre_delete.disconnect(hear, sender=sender)
    post_delete.disconnect(hear, sender=sender)


@pytest.fixture(params=[None, UserTaskArtifact, UserTaskStatus], ids=["unheard", "artifacts heard", "statuses heard"])
def listener(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who is told of each row that goes: nobody, or somebody for whom Django reads the rows first."""
    if request.param is None:
        yield
    else:
        with heard(request.param):
            yield


def through_the_api(artifact: UserTaskArtifact, client: Client) -> None:
    client.delete(reverse("usertaskstatus-detail", args=[artifact.status.uuid]))


def on_the_page(artifact: UserTaskArtifact, client: Client) -> None:
    client.post(reverse("user_tasks:delete", args=[artifact.status.uuid]))


def status_in_the_admin(artifact: UserTaskArtifact, client: Client) -> None:
    client.post(reverse("admin:user_tasks_usertaskstatus_delete", args=[artifact.status.pk]), {"post": "yes"})


def artifact_in_the_admin(artifact: UserTaskArtifact, client: Client) -> None:
    client.post(reverse("admin:user_tasks_usertaskartifact_delete", args=[artifact.pk]), {"post": "yes"})


def user_in_the_admin(artifact: UserTaskArtifact, client: Client) -> None:
    client.post(reverse("admin:auth_user_delete", args=[artifact.status.user.pk]), {"post": "yes"})


WAYS: list[Callable[[UserTaskArtifact, Client], Any]] = [
    lambda artifact, _client: artifact.delete(),
    lambda artifact, _client: UserTaskArtifact.objects.filter(pk=artifact.pk).delete(),
    lambda artifact, _client: artifact.status.artifacts.all().delete(),
    lambda artifact, _client: UserTaskStatus.objects.get(pk=artifact.status.pk).delete(),
    lambda artifact, _client: UserTaskStatus.objects.filter(pk=artifact.status.pk).delete(),
    lambda artifact, _client: removal.delete(artifact.status),
    lambda _artifact, _client: removal.purge(timedelta(days=30)),
    lambda artifact, _client: artifact.status.user.delete(),
    lambda artifact, _client: User.objects.filter(pk=artifact.status.user.pk).delete(),
    lambda artifact, _client: artifact.file.delete(),
    lambda artifact, _client: UserTaskArtifact.objects.filter(pk=artifact.pk).update(file=""),
    through_the_api,
    on_the_page,
    status_in_the_admin,
    artifact_in_the_admin,
    user_in_the_admin,
]
NAMES = (
    "artifact artifacts related status statuses removal purge user users file update api page admin-status "
    "admin-artifact admin-user"
)


@pytest.mark.usefixtures("listener", "package_rules")
@pytest.mark.parametrize("way", WAYS, ids=NAMES.split())
def test_a_file_goes_with_what_names_it(
    media: Path, make_file: MakeFile, way: Callable[[UserTaskArtifact, Client], Any], admin_client: Client
) -> None:
    artifact = make_file()
    other = make_file(UserTaskStatus.objects.create(user=User.objects.create(username="x"), task_id="x", total_steps=1))
    way(artifact, admin_client)
    assert files(media) == [other.file.name]


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize("end", [removal.delete, lambda _chain: removal.purge(timedelta(days=30))])
def test_the_files_of_members_go_with_their_container(
    media: Path, make_status: MakeStatus, make_file: MakeFile, end: Callable[[UserTaskStatus], Any]
) -> None:
    old = {"created": timezone.now() - timedelta(days=31), "state": "Succeeded"}
    chain = make_status(task_class="celery.chain", is_container=True, **old)
    group = make_status(task_class="celery.group", is_container=True, parent=chain, **old)
    for status in (chain, group, make_status(parent=group, **old)):
        make_file(status)
    end(chain)
    assert files(media) == []


@pytest.mark.parametrize("on_delete", [models.RESTRICT, models.PROTECT, models.DO_NOTHING])
def test_what_other_tables_hold_keeps_its_files(
    media: Path, make_file: MakeFile, make_holder: Callable[[Any], type[models.Model]], on_delete: Any
) -> None:
    held, _other = make_file(), make_file()
    make_holder(on_delete)._base_manager.create(status=held.status)
    purged = removal.purge_and_count(timedelta(days=30))
    assert (purged.statuses, purged.held, purged.files) == (1, 1, 1)
    assert files(media) == [held.file.name]


@pytest.mark.usefixtures("listener")
def test_a_file_stays_until_the_commit_and_after_a_rollback(media: Path, make_file: MakeFile) -> None:
    artifact = make_file()
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012 - the transaction is what is tested
        artifact.status.delete()
        assert files(media) == [artifact.file.name]
        raise ZeroDivisionError
    assert files(media) == [artifact.file.name]
    assert UserTaskArtifact.objects.filter(uuid=artifact.uuid).exists()


def test_a_project_may_go_on_to_delete_files_itself(
    media: Path, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    def delete_file(instance: UserTaskArtifact, **_: Any) -> None:
        transaction.on_commit(lambda: instance.file.delete(save=False))

    artifact = make_file()
    post_delete.connect(delete_file, sender=UserTaskArtifact)
    artifact.status.delete()
    post_delete.disconnect(delete_file, sender=UserTaskArtifact)
    assert (files(media), caplog.text) == ([], "")


def test_a_file_that_another_row_names_stays(media: Path, make_file: MakeFile) -> None:
    artifact = make_file()
    other = UserTaskArtifact.objects.create(status=artifact.status, file=artifact.file.name)
    artifact.delete()
    assert files(media) == [other.file.name]
    other.delete()
    assert files(media) == []


def test_a_file_goes_when_another_takes_its_place(media: Path, make_file: MakeFile) -> None:
    artifact = make_file()
    first = artifact.file.name
    with transaction.atomic():
        artifact.file.save("table.csv", ContentFile(b"other"))
        assert first in files(media)
    assert files(media) == [artifact.file.name]
    assert (artifact.size, artifact.file_name) == (5, "table.csv")
    artifact.file.save("table.txt", ContentFile(b"third one"), save=False)
    artifact.save(update_fields=["file"])
    stored = UserTaskArtifact.objects.get()
    assert (stored.size, stored.file_name, stored.content_type) == (9, "table.txt", "text/plain")
    assert files(media) == [stored.file.name]


def test_saving_again_keeps_the_file_and_what_is_known_of_it(media: Path, make_file: MakeFile) -> None:
    artifact = UserTaskArtifact.objects.get(pk=make_file().pk)
    artifact.text = "more"
    artifact.save()
    UserTaskArtifact.objects.defer("file").get().save()
    stored = UserTaskArtifact.objects.get()
    assert files(media) == [stored.file.name]
    assert (stored.size, stored.text) == (7, "more")
    stored.file = "elsewhere/other.csv"
    stored.save()
    assert files(media) == []
    assert (UserTaskArtifact.objects.get().size, stored.file_name) == (None, "")


def test_bytes_are_counted_of_text_too(make_file: MakeFile) -> None:
    artifact = make_file()
    artifact.file.save("text.txt", ContentFile("Größe"))
    assert artifact.size == 7


def test_a_storage_that_fails_undoes_nothing(
    media: Path, make_file: MakeFile, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.StubbornStorage"
    artifact, other = make_file(), make_file()
    with caplog.at_level(logging.ERROR, logger="user_tasks"):
        purged = removal.purge_and_count(timedelta(days=30))
    assert (purged.statuses, purged.files) == (2, 0)
    assert not UserTaskStatus.objects.exists()
    for name in (artifact.file.name, other.file.name):
        assert repr(name) in caplog.text
    settings.USER_TASKS_ARTIFACT_STORAGE = None
    assert dict(orphans.find()) == dict.fromkeys(files(media), 7)


def test_settings_that_name_no_storage_undo_nothing(
    make_file: MakeFile, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = make_file()
    settings.USER_TASKS_ARTIFACT_STORAGE = "no.such.Storage"
    UserTaskArtifact.objects.filter(pk=artifact.pk).delete()
    assert not UserTaskArtifact.objects.exists()
    assert "No module named 'no'" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"BACKEND": f"{__name__}.OverwritingStorage"},
        {"BACKEND": f"{__name__}.CuttingStorage"},
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"allow_overwrite": True}},
    ],
    ids=["overwrites", "cuts and overwrites", "may overwrite"],
)
@pytest.mark.parametrize("stem", ["table", "s" * 60, "s" * 74, "s" * 100, "s" * 180, "ü" * 74, "日" * 180], ids=len)
def test_what_overwrites_gets_names_that_nobody_had(
    make_status: MakeStatus, settings: Settings, options: dict[str, Any], stem: str
) -> None:
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": options}
    status = make_status()
    mine, others = (status.add_artifact(file=data, file_name=f"{stem}.csv") for data in (b"mine", b"others"))
    assert mine.file_name == others.file_name == f"{stem}.csv"
    assert str(mine.file.name).endswith(".csv")
    with mine.file.open() as file:
        assert file.read() == b"mine"


def test_a_copy_that_is_not_new_any_more_leaves_the_newer_file(media: Path, make_file: MakeFile) -> None:
    artifact = make_file()
    copy, part = UserTaskArtifact.objects.get(pk=artifact.pk), UserTaskArtifact.objects.only("name").get(pk=artifact.pk)
    artifact.file.save("other.csv", ContentFile(b"other content"))
    copy.text, part.name = "A note", "Renamed"
    copy.save()
    part.save()
    artifact.refresh_from_db()
    assert (artifact.text, artifact.name, artifact.size) == ("A note", "Renamed", 13)
    assert files(media) == [artifact.file.name]


def test_a_copy_does_not_bring_back_what_has_expired(media: Path, make_file: MakeFile, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=7)
    copy = make_file()
    week_ago = timezone.now() - timedelta(days=8)
    UserTaskArtifact.objects.update(stored=week_ago, created=week_ago)
    assert lifetimes.expire() == 1
    copy.save()
    assert not UserTaskArtifact.objects.with_files().exists()
    copy.refresh_from_db()
    assert copy.expired


def test_a_copy_with_another_file_replaces_the_newest(media: Path, make_file: MakeFile) -> None:
    artifact = make_file()
    copy = UserTaskArtifact.objects.get(pk=artifact.pk)
    artifact.file.save("second.csv", ContentFile(b"second"))
    copy.file.save("third.csv", ContentFile(b"third"))
    assert files(media) == [copy.file.name]
    copy.refresh_from_db()
    assert copy.file_name == "third.csv"


def test_what_is_known_of_a_file_may_be_changed_by_itself(make_file: MakeFile) -> None:
    artifact = UserTaskArtifact.objects.get(pk=make_file().pk)
    artifact.content_type = "text/plain"
    artifact.save()
    artifact.refresh_from_db()
    assert (artifact.content_type, artifact.file_name) == ("text/plain", "table.csv")


@pytest.mark.parametrize("method", ["delete", "clear"])
def test_nothing_is_known_of_a_file_that_is_taken_away(media: Path, make_file: MakeFile, method: str) -> None:
    artifact = UserTaskArtifact.objects.get(pk=make_file().pk)
    if method == "delete":
        artifact.file.delete()
    else:
        artifact.file = ""
        artifact.save()
    artifact.refresh_from_db()
    known = (artifact.file_name, artifact.content_type, artifact.size, artifact.stored, artifact.expired)
    assert known == ("", "", None, None, None)
    assert files(media) == []


def test_a_file_that_was_only_named_is_not_ours_to_remove(media: Path, make_status: MakeStatus) -> None:
    name = artifact_storage().save("templates/letter.odt", ContentFile(b"Dear reader"))
    artifact = UserTaskArtifact.objects.create(status=make_status(), file=name)
    artifact.status.delete()
    assert files(media) == [name]


def test_a_storage_may_keep_files_elsewhere(media: Path, make_status: MakeStatus, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.FlatStorage"
    artifact = make_status().add_artifact(file=b"content", file_name="table.csv")
    assert files(media) == ["table.csv"]
    artifact.status.delete()
    assert files(media) == []


def test_names_are_collected_for_all_artifacts_at_once(make_status: MakeStatus, make_file: MakeFile) -> None:
    counts = []
    for number in (2, 20):
        for _ in range(number):
            make_file()
        with CaptureQueriesContext(connection) as queries:
            assert removal.purge(timedelta(days=30)) == number
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_large_tree_goes_in_several_transactions(
    media: Path, make_status: MakeStatus, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "ROWS", 2)
    monkeypatch.setattr(stored_files, "BATCH", 2)
    old = {"created": timezone.now() - timedelta(days=31), "state": "Succeeded"}
    for _ in range(2):
        group = make_status(task_class="celery.group", is_container=True, **old)
        for _ in range(5):
            inner = make_status(task_class="celery.chain", is_container=True, parent=group, **old)
            make_file(make_status(parent=inner, **old))
    assert removal.purge_and_count(timedelta(days=30)) == removal.Purged(statuses=22, files=10, size=70)
    assert files(media) == []


def purge(*arguments: str) -> str:
    output = StringIO()
    call_command("purge_user_tasks", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_reports_rows_files_and_bytes(make_file: MakeFile) -> None:
    first = make_file()
    make_file(data=b"1234")
    UserTaskArtifact.objects.filter(pk=first.pk).update(size=None)
    assert purge() == "2 statuses deleted.\n2 files removed, 11 bytes.\n"


def test_orphans_are_listed_and_removed(media: Path, make_file: MakeFile) -> None:
    kept, orphan = make_file(), make_file()
    UserTaskArtifact._base_manager.filter(pk=orphan.pk)._raw_delete("default")
    name = str(orphan.file.name)
    Path(media, name).parent.mkdir(parents=True, exist_ok=True)
    Path(media, name).write_bytes(b"12345")
    (media / "of_others.txt").write_text("not ours")
    assert purge("--orphans") == f"{name}\n1 files that no artifact names, 5 bytes.\n"
    assert purge("--orphans", "--delete", "--dry-run").startswith(name)
    assert purge("--orphans", "--delete") == f"{name}\n1 files removed, 5 bytes.\n"
    assert files(media) == ["of_others.txt", kept.file.name]
    assert purge("--orphans") == "0 files that no artifact names, 0 bytes.\n"


def test_what_a_running_task_may_be_about_to_name_is_no_orphan_to_remove(media: Path, make_status: MakeStatus) -> None:
    running = make_status(state="In Progress", started=timezone.now() - timedelta(minutes=1))
    artifact = UserTaskArtifact(status=running)
    artifact.file.save("table.csv", ContentFile(b"content"), save=False)
    assert purge("--orphans", "--delete") == "0 files removed, 0 bytes.\n"
    artifact.save()
    assert files(media) == [artifact.file.name]


@pytest.fixture
def make_orphan(media: Path) -> Callable[..., str]:
    """Return a factory of files that no row names, by their folders, of a given age in hours."""

    def make(folder: str = "2026/01/01", hours: float = 0) -> str:
        path = media / "user_tasks" / folder / "table.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
        then = time.time() - hours * 3600
        os.utime(path, (then, then))
        return path.relative_to(media).as_posix()

    return make


def test_files_younger_than_the_command_is_told_are_no_orphans(
    media: Path, db: None, make_orphan: Callable[..., str]
) -> None:
    old, young = make_orphan("2026/01/01", hours=25), make_orphan("2026/01/02", hours=23)
    assert purge("--orphans", "--older-than", "1") == f"{old}\n1 files that no artifact names, 5 bytes.\n"
    assert purge("--orphans", "--delete", "--older-than", "1") == f"{old}\n1 files removed, 5 bytes.\n"
    assert files(media) == [young]
    assert purge("--orphans", "--delete", "--older-than", "0") == f"{young}\n1 files removed, 5 bytes.\n"


def test_a_file_that_is_named_while_the_storage_is_listed_stays(
    media: Path,
    make_status: MakeStatus,
    make_orphan: Callable[..., str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_files, "BATCH", 1)
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.NamedMeanwhileStorage"
    name = make_orphan("2026/01/01")
    (media / "user_tasks" / "last").mkdir()
    make_status(state="Succeeded")
    assert purge("--orphans", "--delete") == "0 files removed, 0 bytes.\n"
    assert files(media) == [name]


@pytest.mark.usefixtures("replica")
def test_no_replica_is_asked_which_files_are_named(media: Path, make_orphan: Callable[..., str], owner: User) -> None:
    orphan = make_orphan()
    artifact = UserTaskArtifact(status=UserTaskStatus.objects.create(user=owner, task_id="1", total_steps=1))
    artifact.file.save("table.csv", ContentFile(b"content"))
    assert purge("--orphans") == f"{orphan}\n1 files that no artifact names, 5 bytes.\n"
    assert purge("--orphans", "--delete") == f"{orphan}\n1 files removed, 5 bytes.\n"
    assert files(media) == [artifact.file.name]


@pytest.mark.usefixtures("replica")
def test_no_replica_is_asked_which_files_have_expired(make_file: MakeFile, settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=7)
    make_file(created=timezone.now() - timedelta(days=8))
    UserTaskArtifact.objects.update(stored=timezone.now() - timedelta(days=8))
    assert lifetimes.expire() == 1


def test_files_that_go_with_a_transaction_are_counted_at_its_commit(media: Path, make_file: MakeFile) -> None:
    make_file()
    with transaction.atomic():
        purged = removal.purge_and_count(timedelta(days=30))
        assert (purged.statuses, purged.files, len(files(media))) == (1, 0, 1)
    assert (purged.statuses, purged.files, purged.size, files(media)) == (1, 1, 7, [])


@pytest.fixture
def few_parameters(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many parameters a statement takes for the test, where the database sets a limit."""
    most = 2100
    if connection.vendor != "sqlite":
        yield most
        return
    connection.ensure_connection()
    before = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
    monkeypatch.setitem(vars(connection.features), "max_query_params", most)
    yield most
    connection.ensure_connection()
    connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)


@pytest.mark.parametrize(
    "end", [lambda group: group.delete(), lambda _group: removal.purge(timedelta(days=30))], ids=["deletion", "purge"]
)
def test_the_files_of_more_members_than_a_statement_takes_parameters_go_too(
    media: Path, make_status: MakeStatus, make_file: MakeFile, few_parameters: int, end: Callable[[UserTaskStatus], Any]
) -> None:
    old = {"created": timezone.now() - timedelta(days=31), "state": "Succeeded"}
    group = make_status(task_class="celery.group", is_container=True, **old)
    fields = {"user": group.user, "task_class": "celery.chain", "is_container": True, "total_steps": 1, **old}
    UserTaskStatus.objects.bulk_create(
        UserTaskStatus(task_id=f"member {number}", parent=group, **fields) for number in range(few_parameters)
    )
    make_file(make_status(parent=UserTaskStatus.objects.get(task_id="member 0"), **old))
    with heard(UserTaskArtifact):
        end(group)
    assert files(media) == []
    assert not UserTaskStatus.objects.exists()


def test_the_command_says_what_it_cannot_do(settings: Settings) -> None:
    settings.USER_TASKS_ARTIFACT_STORAGE = f"{__name__}.BlindStorage"
    with pytest.raises(CommandError, match="cannot list"):
        purge("--orphans")
    with pytest.raises(CommandError, match="--delete is for --orphans"):
        purge("--delete")


def test_files_past_their_age_go_and_their_artifacts_say_so(
    media: Path, make_status: MakeStatus, make_file: MakeFile, settings: Settings
) -> None:
    status = make_status(state="Succeeded")
    old, replaced, young = (make_file(status, created=timezone.now() - timedelta(days=days)) for days in (3, 3, 1))
    for artifact, days in ((old, 3), (replaced, 1), (young, 1)):
        UserTaskArtifact.objects.filter(pk=artifact.pk).update(stored=timezone.now() - timedelta(days=days))
    text = UserTaskArtifact.objects.create(status=status, text="text", created=timezone.now() - timedelta(days=3))
    assert removal.purge_and_count(timedelta(days=30)).expired == 0
    settings.USER_TASKS_ARTIFACT_MAX_AGE = timedelta(days=2)
    assert purge() == "0 statuses deleted.\n1 artifacts expired.\n1 files removed, 7 bytes.\n"
    assert files(media) == sorted([str(replaced.file.name), str(young.file.name)])
    for artifact, expired in ((old, True), (replaced, False), (young, False), (text, False)):
        artifact.refresh_from_db()
        assert (artifact.expired is not None) == expired
    assert (old.file_name, old.size, bool(old.file)) == ("table.csv", 7, False)
    assert old.modified > young.modified
    assert removal.purge_and_count(timedelta(days=30)).expired == 0
    old.file.save("again.csv", ContentFile(b"again"))
    assert UserTaskArtifact.objects.get(pk=old.pk).expired is None
