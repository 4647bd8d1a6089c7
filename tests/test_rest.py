from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection, models
from django.test import Client
from django.utils import translation
from django.utils.timezone import localtime
from pytest_django import DjangoAssertNumQueries, Settings

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.serializers import ArtifactSerializer, StatusSerializer

S3: dict[str, Any] = {
    "BACKEND": "storages.backends.s3.S3Storage",
    "OPTIONS": {"bucket_name": "outputs", "access_key": "key", "secret_key": "secret", "region_name": "eu-west-1"},
}

pytestmark = pytest.mark.usefixtures("package_rules")


@pytest.fixture
def mine(client: Client, owner: User) -> Client:
    """The client of the owner."""
    client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def status(make_status: Callable[..., UserTaskStatus]) -> UserTaskStatus:
    """A status of the owner."""
    return make_status(name="Export of May", total_steps=3)


@pytest.fixture
def artifact(status: UserTaskStatus, make_artifact: Callable[..., UserTaskArtifact]) -> UserTaskArtifact:
    """An artifact of the status."""
    return make_artifact(status, text="4 rows", url="https://example.com/report")


def detail(subject: UserTaskStatus | UserTaskArtifact) -> str:
    return f"/{'tasks' if isinstance(subject, UserTaskStatus) else 'artifacts'}/{subject.uuid}/"


def test_a_status_shows_its_fields(mine: Client, status: UserTaskStatus, artifact: UserTaskArtifact) -> None:
    status.start()
    status.increment_completed_steps(2)
    shown = mine.get(detail(status)).json()
    times = {name: shown.pop(name) for name in ("created", "modified")}
    assert shown == {
        "name": "Export of May",
        "state": "In Progress",
        "state_text": "In Progress",
        "completed_steps": 2,
        "total_steps": 3,
        "attempts": 1,
        "artifacts": [f"http://testserver/artifacts/{artifact.uuid}/"],
    }
    assert times == {name: localtime(getattr(status, name)).isoformat() for name in times}


def test_an_artifact_shows_its_fields(mine: Client, status: UserTaskStatus, artifact: UserTaskArtifact) -> None:
    shown = mine.get(detail(artifact)).json()
    times = {name: shown.pop(name) for name in ("created", "modified")}
    assert shown == {
        "name": "Output",
        "status": f"http://testserver/tasks/{status.uuid}/",
        "file": "",
        "text": "4 rows",
        "url": "https://example.com/report",
    }
    assert times == {name: localtime(getattr(artifact, name)).isoformat() for name in times}


def test_fields_are_those_of_the_contract_in_its_order() -> None:
    assert " ".join(StatusSerializer.Meta.fields) == (
        "name state state_text completed_steps total_steps attempts created modified artifacts"
    )
    assert " ".join(ArtifactSerializer.Meta.fields) == "name created modified status file text url"


def test_steps_stay_numbers_where_the_project_writes_large_numbers_as_text(
    mine: Client, make_status: Callable[..., UserTaskStatus], settings: Settings
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "COERCE_BIGINT_TO_STRING": True}
    assert mine.get(detail(make_status(total_steps=2**40))).json()["total_steps"] == 2**40


def test_a_status_without_artifacts_is_serialized_without_a_request(status: UserTaskStatus) -> None:
    assert StatusSerializer(status).data["artifacts"] == []


def test_a_state_is_told_in_the_language_of_the_request(mine: Client, status: UserTaskStatus) -> None:
    with translation.override("de"):
        shown = mine.get(detail(status)).json()
        assert (shown["state"], shown["state_text"]) == ("Pending", status.state_text)


@pytest.mark.parametrize("base_url", ["/files/", "https://cdn.example.com/"])
def test_a_file_is_told_as_its_storage_gives_it(
    mine: Client, artifact: UserTaskArtifact, settings: Settings, base_url: str
) -> None:
    storage = {"BACKEND": "django.core.files.storage.InMemoryStorage", "OPTIONS": {"base_url": base_url}}
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": storage}
    artifact.refresh_from_db()
    artifact.file.save(name="rows of May.csv", content=ContentFile(b"a,b"))
    shown = mine.get(detail(artifact)).json()["file"]
    assert shown == artifact.file.url
    assert shown.startswith(base_url)


def test_a_file_whose_storage_has_no_urls_is_told_as_empty(
    mine: Client, artifact: UserTaskArtifact, settings: Settings
) -> None:
    storage = {"BACKEND": "django.core.files.storage.Storage"}
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": storage}
    UserTaskArtifact.objects.update(file="rows.csv")
    assert mine.get(detail(artifact)).json()["file"] == ""


def test_canceling_answers_with_the_canceled_status(mine: Client, status: UserTaskStatus) -> None:
    response = mine.post(f"{detail(status)}cancel/")
    assert (response.status_code, response.json()["state"]) == (201, "Canceled")
    status.refresh_from_db()
    assert status.state == "Canceled"


def test_canceling_leaves_a_finished_task_as_it_is(mine: Client, status: UserTaskStatus) -> None:
    status.succeed()
    response = mine.post(f"{detail(status)}cancel/")
    assert (response.status_code, response.json()["state"]) == (201, "Succeeded")


def test_canceling_a_container_cancels_its_members(
    mine: Client, make_container: Callable[..., UserTaskStatus], make_status: Callable[..., UserTaskStatus]
) -> None:
    chain = make_container("celery.chain")
    member = make_status(parent=chain)
    assert mine.post(f"{detail(chain)}cancel/").json()["state"] == "Canceled"
    member.refresh_from_db()
    assert member.state == "Canceled"


def test_deleting_cancels_first_and_takes_the_artifacts_along(
    mine: Client, status: UserTaskStatus, artifact: UserTaskArtifact, revoked: list[str], stopped: list[Any]
) -> None:
    response = mine.delete(detail(status))
    assert (response.status_code, response.content) == (204, b"")
    assert not UserTaskStatus.objects.exists()
    assert not UserTaskArtifact.objects.exists()
    assert revoked == [status.task_id]
    assert [ended.state for ended in stopped] == ["Canceled"]


@pytest.fixture
def report_model(transactional_db: None) -> Iterator[type[models.Model]]:
    """A model of a project whose rows hold statuses, with its table."""

    class Report(models.Model):
        status = models.ForeignKey(UserTaskStatus, on_delete=models.RESTRICT)

        class Meta:
            app_label = "user_tasks"
            verbose_name_plural = "monthly reports"

        def __str__(self) -> str:
            return "Secret numbers"

    with connection.schema_editor() as editor:
        editor.create_model(Report)
    yield Report
    with connection.schema_editor() as editor:
        editor.delete_model(Report)
    del Report._meta.apps.all_models["user_tasks"]["report"]
    Report._meta.apps.clear_cache()


def test_what_other_tables_hold_is_not_deleted_and_the_reason_is_told(
    report_model: Any, mine: Client, status: UserTaskStatus
) -> None:
    report_model.objects.create(status=status)
    response = mine.delete(detail(status))
    assert response.status_code == 409
    assert response.json() == {"detail": "It cannot be deleted, because these refer to it: monthly reports."}
    status.refresh_from_db()
    assert status.state == "Pending"


@pytest.fixture(params=["status", "artifact"])
def subject(request: pytest.FixtureRequest) -> Any:
    """A status, and an artifact."""
    return request.getfixturevalue(request.param)


@pytest.mark.usefixtures("artifact")
def test_a_copy_that_is_still_right_is_confirmed_with_one_query(
    mine: Client, subject: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first = mine.get(detail(subject))
    with django_assert_num_queries(1 + 2):
        second = mine.get(detail(subject), headers={"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.content) == (304, b"")
    kept = ("ETag", "Cache-Control", "Vary")
    assert [second.headers[name] for name in kept] == [first.headers[name] for name in kept]


@pytest.mark.usefixtures("artifact")
def test_a_status_takes_two_queries(
    mine: Client, status: UserTaskStatus, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2 + 2):
        assert len(mine.get(detail(status)).json()["artifacts"]) == 1


def test_a_status_does_not_read_what_is_in_its_artifacts(
    mine: Client, status: UserTaskStatus, artifact: UserTaskArtifact, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(4) as queries:
        mine.get(detail(status))
    columns = [re.sub('["`]', "", query["sql"]) for query in queries.captured_queries]
    assert [sql for sql in columns if "usertaskartifact.uuid" in sql]
    assert not [sql for sql in columns if "usertaskartifact.text" in sql]


def add_artifact(status: UserTaskStatus) -> None:
    UserTaskArtifact.objects.create(status=status)


def touch_artifact(status: UserTaskStatus) -> None:
    status.artifacts.get().save()


def rename_behind_the_back(status: UserTaskStatus) -> None:
    UserTaskStatus.objects.update(name="Export of June")


STATUS_CHANGES: list[Callable[[UserTaskStatus], Any]] = [
    UserTaskStatus.start,
    UserTaskStatus.increment_completed_steps,
    UserTaskStatus.save,
    add_artifact,
    touch_artifact,
    lambda status: status.artifacts.get().delete(),
    rename_behind_the_back,
]


@pytest.mark.parametrize("change", STATUS_CHANGES)
@pytest.mark.usefixtures("artifact")
def test_every_change_of_a_status_or_its_artifacts_changes_the_tag(
    mine: Client, status: UserTaskStatus, change: Callable[[UserTaskStatus], Any]
) -> None:
    first = mine.get(detail(status))
    change(status)
    second = mine.get(detail(status), headers={"If-None-Match": first.headers["ETag"]})
    assert second.status_code == 200
    assert second.headers["ETag"] != first.headers["ETag"]


def test_every_change_of_an_artifact_changes_the_tag(mine: Client, artifact: UserTaskArtifact) -> None:
    tags = [mine.get(detail(artifact)).headers["ETag"]]
    for change in ({"text": "5 rows"}, {"name": "Rows"}, {"file": "rows.csv"}):
        UserTaskArtifact.objects.update(**change)
        tags.append(mine.get(detail(artifact)).headers["ETag"])
    artifact.save()
    tags.append(mine.get(detail(artifact)).headers["ETag"])
    assert len(set(tags)) == len(tags)


def test_the_browsable_api_has_no_tag_since_it_shows_more_than_the_status(mine: Client, status: UserTaskStatus) -> None:
    assert "ETag" not in mine.get(detail(status), headers={"Accept": "text/html"}).headers


def test_tags_differ_by_language_host_and_time_zone(mine: Client, status: UserTaskStatus, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    headers: list[dict[str, str]] = [{}, {"Accept-Language": "de"}, {"Host": "other"}]
    tags = [mine.get(detail(status), headers=header).headers["ETag"] for header in headers]
    tags.append(mine.get(detail(status), secure=True).headers["ETag"])
    settings.TIME_ZONE = "Asia/Tokyo"
    tags.append(mine.get(detail(status)).headers["ETag"])
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("signed", [True, False])
def test_a_file_with_a_signed_url_has_no_tag(
    mine: Client, artifact: UserTaskArtifact, settings: Settings, signed: bool
) -> None:
    storage = {**S3, "OPTIONS": {**S3["OPTIONS"], "querystring_auth": signed}}
    settings.STORAGES = {**settings.STORAGES, "user_task_artifacts": storage}
    UserTaskArtifact.objects.update(file="rows.csv")
    response = mine.get(detail(artifact), headers={"If-None-Match": "*"})
    assert response.status_code == (200 if signed else 304)
    assert ("ETag" in response.headers) is not signed


def test_an_answer_of_another_version_than_asked_for_is_refused(mine: Client, status: UserTaskStatus) -> None:
    tag = mine.get(detail(status)).headers["ETag"]
    assert mine.get(detail(status), headers={"If-Match": tag}).status_code == 200
    assert mine.get(detail(status), headers={"If-Match": '"older"'}).status_code == 412


def test_answers_are_for_the_asking_user_and_asked_about_at_each_use(
    mine: Client, status: UserTaskStatus, artifact: UserTaskArtifact
) -> None:
    urls = ["/tasks/", "/artifacts/", detail(status), detail(artifact), "/tasks/unknown/"]
    for response in [mine.get(url) for url in urls]:
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert {"Accept-Language", "Cookie"} <= set(response.headers["Vary"].split(", "))


@pytest.mark.parametrize("state", ["Pending", "In Progress", "Compressing", "Retrying"])
def test_an_unfinished_status_says_when_to_ask_again(
    mine: Client, make_status: Callable[..., UserTaskStatus], state: str
) -> None:
    url = detail(make_status(state=state))
    first = mine.get(url)
    second = mine.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert [response.headers["Retry-After"] for response in (first, second)] == ["2", "2"]


@pytest.mark.parametrize("state", ["Succeeded", "Failed", "Canceled"])
def test_a_finished_status_does_not(mine: Client, make_status: Callable[..., UserTaskStatus], state: str) -> None:
    assert "Retry-After" not in mine.get(detail(make_status(state=state))).headers
