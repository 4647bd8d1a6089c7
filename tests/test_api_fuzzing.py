"""The API under whatever its own schema allows, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django.live_server_helper import LiveServer
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from user_tasks.models import UserTaskArtifact, UserTaskStatus

EXAMPLES = 25
"""Calls of each kind, by each user."""

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]

pytestmark = pytest.mark.usefixtures("package_rules")


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema of the API as it is."""
    generator: Any = SchemaGenerator
    return schemathesis.openapi.from_dict(generator().get_schema(public=True))


@pytest.fixture
def uuids(owner: User, make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]) -> list[str]:
    """Those of a status and an artifact of the owner's, and of another's status."""
    mine, other = make_status(), make_status(user=make_user())
    artifact = UserTaskArtifact.objects.create(status=mine, text="text")
    return [str(mine.uuid), str(other.uuid), str(artifact.uuid)]


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
    ],
)
def test_every_answer_is_a_documented_one(
    schema: Any, uuids: list[str], live_server: LiveServer, who: str, call: str
) -> None:
    users = {"owner": User.objects.get(username="owner"), "superuser": User.objects.create_superuser("superuser")}
    headers = headers_of(users.get(who))
    method, path = call.split()

    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=schema[path][method].as_strategy(), data=st.data())
    def send(case: Any, data: st.DataObject) -> None:
        if "{uuid}" in path and data.draw(st.booleans()):
            case.path_parameters = {"uuid": data.draw(st.sampled_from(uuids))}
        case.call_and_validate(base_url=live_server.url, headers=headers, checks=CHECKS)

    send()
