"""The API under whatever its own schema allows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from user_tasks.models import UserTaskArtifact, UserTaskStatus

EXAMPLES = 25
"""Calls of each kind, by each user."""

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]

pytestmark = pytest.mark.usefixtures("package_rules")


def described() -> Any:
    """Return the schema of the API as it is now."""
    generator: Any = SchemaGenerator
    return schemathesis.openapi.from_dict(generator().get_schema(public=True))


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema of the API."""
    return described()


@pytest.fixture
def known(
    owner: User, make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]
) -> dict[str, list[str]]:
    """What stands for something in a path: a status and an artifact of the owner's, another's status, and links."""
    mine, other = make_status(), make_status(user=make_user())
    text = UserTaskArtifact.objects.create(status=mine, text="text")
    empty = UserTaskArtifact.objects.create(status=mine, url="https://example.com/")
    times = ((text, timedelta(hours=1)), (text, timedelta(0)), (empty, timedelta(hours=1)))
    return {
        "uuid": [str(mine.uuid), str(other.uuid), str(text.uuid)],
        "token": [artifact.signed_url(time).rstrip("/").rpartition("/")[2] for artifact, time in times],
    }


def headers_of(user: User | None) -> dict[str, str]:
    """Return what a browser sends in which this user is logged in."""
    if user is None:
        return {}
    client = Client()
    client.force_login(user)
    token = "a" * 32
    cookies = f"sessionid={client.session.session_key}; csrftoken={token}"
    return {"Cookie": cookies, "X-CSRFToken": token}


@pytest.mark.parametrize("who", ["anonymous", "owner", "superuser"])
@pytest.mark.parametrize(
    "call",
    [
        "GET /tasks/",
        "GET /tasks/{uuid}/",
        "DELETE /tasks/{uuid}/",
        "POST /tasks/{uuid}/cancel/",
        "GET /artifacts/",
        "GET /artifacts/{uuid}/",
        "GET /artifacts/{uuid}/download/",
        "GET /artifacts/shared/{token}/",
    ],
)
def test_every_answer_is_a_documented_one(
    schema: Any, known: dict[str, list[str]], live_server: LiveServer, who: str, call: str
) -> None:
    users = {"owner": User.objects.get(username="owner"), "superuser": User.objects.create_superuser("superuser")}
    method, path = call.split()

    send_some(schema[path][method].as_strategy(), known, live_server, headers_of(users.get(who)))


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_of_a_filtered_list_is_a_documented_one(
    owner: User, live_server: LiveServer, settings: Settings, mode: GenerationMode
) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_filters"]
    cases = described()["/tasks/"]["GET"].as_strategy(generation_mode=mode)

    send_some(cases, {}, live_server, headers_of(owner))


def send_some(cases: Any, known: dict[str, list[str]], live_server: LiveServer, headers: dict[str, str]) -> None:
    """Send calls of one kind, every other one with what stands for something in its path."""

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=cases, data=st.data())
    def send(case: Any, data: st.DataObject) -> None:
        for name, values in known.items():
            if name in case.path_parameters and data.draw(st.booleans()):
                case.path_parameters = {name: data.draw(st.sampled_from(values))}
        case.call_and_validate(base_url=live_server.url, headers=headers, checks=CHECKS)

    send()
