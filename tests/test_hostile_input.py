"""What nobody sends but an attacker, or a bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import shared_task
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from testfixtures import LogCapture

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.tasks import UserTask

MakeStatus = Callable[..., UserTaskStatus]

TEXTS = {
    "nul": "a\0b",
    "lone surrogate": "a\ud800b",
    "bidi override": "invoice\u202egpj.exe",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "template": "{{ settings.SECRET_KEY }}{% load x %}",
    "huge": "x" * 5_000_000,
    "controls": "".join(map(chr, range(32))),
    "combining": "e" + "\u0301" * 10_000,
    "emoji": "\U0001f468\u200d\U0001f469" * 1000,
    "empty": "",
}

pytestmark = pytest.mark.usefixtures("package_rules")


@shared_task(base=UserTask)
def hostile(user_id: Any, label: Any = "") -> None:
    """Bear any name."""


class Named(UserTask):
    """A task whose name and steps come from the call."""

    abstract = True

    @classmethod
    def generate_name(cls, arguments_dict: dict[str, Any]) -> str:
        return TEXTS[arguments_dict["label"]]

    @staticmethod
    def calculate_total_steps(arguments_dict: dict[str, Any]) -> int:
        steps: int = arguments_dict["steps"]
        return steps


@shared_task(base=Named)
def named(user_id: Any, label: str = "empty", steps: Any = 1) -> None:
    """Bear the name of the call."""


def shown(client: Client, status: UserTaskStatus) -> dict[str, Any]:
    """Return the status as its owner reads it."""
    client.force_login(status.user)
    response = client.get(f"/tasks/{status.uuid}/")
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content.decode())
    return found


@pytest.mark.parametrize("kind", TEXTS)
def test_names_of_tasks(owner: User, client: Client, kind: str) -> None:
    result = named.delay(owner.pk, kind)

    status = UserTaskStatus.objects.get(task_id=result.id)
    assert len(status.name) <= 255
    assert "\0" not in status.name
    assert shown(client, status)["name"] == status.name


@pytest.mark.parametrize("kind", TEXTS)
def test_names_and_states_set_by_tasks(make_status: MakeStatus, client: Client, kind: str) -> None:
    status = make_status()

    status.set_name(TEXTS[kind])
    status.set_state(TEXTS[kind])

    status.refresh_from_db()
    assert (len(status.name) <= 255, len(status.state) <= 128) == (True, True)
    assert shown(client, status)["state"] == status.state


@pytest.mark.parametrize("kind", TEXTS)
def test_error_texts(make_status: MakeStatus, client: Client, kind: str) -> None:
    status = make_status()

    status.fail(TEXTS[kind])

    artifact = status.artifacts.get()
    assert len(artifact.text.encode()) <= 70_000
    client.force_login(status.user)
    response = client.get(f"/artifacts/{artifact.uuid}/")
    assert (response.status_code, response.json()["text"]) == (200, artifact.text)


@pytest.mark.parametrize(
    "value", [{"a": float("nan")}, float("inf"), b"\xff", object, {1: {2: TEXTS["nul"]}}, None, -0.0]
)
def test_errors_that_are_no_texts(make_status: MakeStatus, client: Client, value: object) -> None:
    status = make_status()

    status.fail(value)

    assert status.state == "Failed"
    assert status.artifacts.count() == 1
    assert shown(client, status)["state"] == "Failed"


@pytest.mark.parametrize("steps", [-1, 0, 10**9, 2**63 - 1, -(2**63)])
def test_numbers_of_steps(owner: User, client: Client, steps: int) -> None:
    result = named.delay(owner.pk, steps=steps)

    assert shown(client, UserTaskStatus.objects.get(task_id=result.id))["total_steps"] == steps


@pytest.mark.parametrize("steps", [float("nan"), float("inf"), 2**63, 10**40, "many", None])
def test_numbers_that_are_none_are_logged(owner: User, steps: Any) -> None:
    with LogCapture() as log:
        named.delay(owner.pk, steps=steps)

    assert log.records
    assert not UserTaskStatus.objects.exists()


@pytest.mark.parametrize("user_id", ["0", -1, "", "1\0", 10**30, "x" * 10**5, 1.5, True, [], {}, "\ud800"])
def test_user_ids_that_are_none(db: None, user_id: Any) -> None:
    with LogCapture() as log:
        assert hostile.apply_async(kwargs={"user_id": user_id}, serializer="pickle").id

    assert log.records
    assert not UserTaskStatus.objects.exists()


def test_a_deleted_user_is_none_and_an_inactive_one_is_one(owner: User, make_user: Callable[..., User]) -> None:
    inactive = make_user(is_active=False)
    deleted = make_user()
    pk = deleted.pk
    deleted.delete()

    hostile.delay(inactive.pk)
    with LogCapture() as log:
        hostile.delay(pk)

    assert UserTaskStatus.objects.get().user == inactive
    assert f"Invalid user_id: {pk}" in str(log)


@pytest.mark.parametrize("kind", ["html", "bidi override", "template", "emoji"])
def test_names_and_links_of_outputs(
    make_status: MakeStatus, make_artifact: Callable[..., UserTaskArtifact], client: Client, kind: str
) -> None:
    status = make_status()
    artifact = make_artifact(status, name=TEXTS[kind][:255], text=TEXTS[kind], url=f"javascript:{TEXTS[kind]}")

    client.force_login(status.user)
    response = client.get(f"/artifacts/{artifact.uuid}/")

    assert response.status_code == 200
    assert response.json()["name"] == artifact.name
    assert str(artifact).startswith("<UserTaskArtifact: (")


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400))
def test_any_text_is_kept_or_mended(make_status: MakeStatus, client: Client, text: str) -> None:
    status = make_status()

    status.set_name(text)
    status.fail(text)

    status.refresh_from_db()
    assert shown(client, status)["name"] == status.name
    assert status.artifacts.count() == 1


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/%00/", "/tasks/x/", "/tasks/%ED%A0%80/", "/tasks/?page=%00", "/tasks/?page=99999999999999999999",
        "/tasks/?page=-1", "/tasks/?page=NaN", "/artifacts/%00/", "/artifacts/?page=1e9", "/tasks/?state=%00",
        "/tasks/?modified_after=%00", "/tasks/?search=%00", "/tasks/?name=%00&parent=%00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("who", ["anonymous", "owner", "superuser"])
def test_addresses(owner: User, make_user: Callable[..., User], client: Client, who: str, path: str) -> None:
    if who != "anonymous":
        client.force_login(owner if who == "owner" else make_user(is_superuser=True))

    assert client.get(path).status_code in {200, 400, 403, 404}
