from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.versioning import URLPathVersioning

from user_tasks.detailed import CHILDREN_SHOWN, DetailedStatusSerializer
from user_tasks.models import UserTaskStatus
from user_tasks.responses import accepted
from user_tasks.serializers import StatusSerializer

MakeStatus = Callable[..., UserTaskStatus]

SERVER = "http://testserver"
DETAILED = "user_tasks.detailed.DetailedStatusSerializer"


@pytest.fixture
def as_owner(client: Client, owner: User, package_rules: None) -> Client:
    """A client that is logged in as the owner of the statuses, who may see and change what is theirs."""
    client.force_login(owner)
    return client


@pytest.fixture
def workflow(make_status: MakeStatus, make_container: MakeStatus) -> UserTaskStatus:
    """A container with one part, beside which there is another task."""
    whole = make_container("celery.group", name="Whole")
    make_status(name="Part", state="Compressing", parent=whole)
    make_status(name="Import", state="Failed")
    return whole


def names(response: Any) -> list[str]:
    """Return the names in a list."""
    return [status["name"] for status in response.json()]


def serialized(status: UserTaskStatus) -> dict[str, Any]:
    """Return what the fuller serializer tells about a status."""
    status.refresh_from_db()
    request = RequestFactory().get("/")
    return dict(DetailedStatusSerializer(status, context={"request": request}).data)


def test_detailed_serializer_adds_to_the_fields_of_the_contract(make_status: MakeStatus) -> None:
    added = set(serialized(make_status())) - set(StatusSerializer.Meta.fields)
    assert added == {
        *("uuid", "url", "cancel_url", "page_url", "parent", "children", "done", "progress", "started", "finished"),
        *("estimated_time_left", "task_class"),
    }


def test_detailed_serializer_links_relatives_and_pages(make_status: MakeStatus, make_container: MakeStatus) -> None:
    group = make_container("celery.group")
    first, second = make_status(parent=group), make_status(parent=group)
    member, container = serialized(first), serialized(group)
    assert member["url"] == f"{SERVER}/tasks/{first.uuid}/"
    assert member["cancel_url"] == f"{SERVER}/tasks/{first.uuid}/cancel/"
    assert member["page_url"] == f"{SERVER}/my-tasks/{first.uuid}/"
    assert (member["parent"], member["children"]) == (container["url"], [])
    assert container["parent"] is None
    assert container["children"] == [member["url"], serialized(second)["url"]]


def test_detailed_serializer_names_no_more_than_the_first_children(
    make_status: MakeStatus, make_container: MakeStatus
) -> None:
    group = make_container("celery.group")
    members = [make_status(parent=group) for _ in range(CHILDREN_SHOWN + 1)]
    expected = [f"{SERVER}/tasks/{member.uuid}/" for member in members[:-1]]
    assert serialized(group)["children"] == expected


def test_detailed_serializer_estimates(make_status: MakeStatus) -> None:
    started = timezone.now() - timedelta(minutes=1)
    running = serialized(make_status(state="In Progress", completed_steps=3, total_steps=12, started=started))
    assert (running["done"], running["progress"]) == (False, 0.25)
    assert running["estimated_time_left"] == pytest.approx(180, abs=5)
    for state, done in (("Retrying", False), ("Failed", True)):
        other = serialized(make_status(state=state, completed_steps=3, total_steps=12, started=started))
        assert (other["done"], other["estimated_time_left"]) == (done, None)


@pytest.mark.urls("user_tasks.urls")
def test_detailed_serializer_needs_no_pages(make_status: MakeStatus) -> None:
    assert serialized(make_status())["page_url"] is None


def test_the_setting_chooses_the_serializer_of_the_api(
    as_owner: Client, make_status: MakeStatus, settings: Settings
) -> None:
    status = make_status()
    assert set(as_owner.get(f"/tasks/{status.uuid}/").json()) == set(StatusSerializer.Meta.fields)
    settings.USER_TASKS_STATUS_SERIALIZER = DETAILED
    assert as_owner.get(f"/tasks/{status.uuid}/").json()["uuid"] == str(status.uuid)
    assert as_owner.post(f"/tasks/{status.uuid}/cancel/").json()["done"] is True


def test_a_list_of_detailed_statuses_costs_the_same_whatever_its_length(
    as_owner: Client,
    make_status: MakeStatus,
    make_container: MakeStatus,
    settings: Settings,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    settings.USER_TASKS_STATUS_SERIALIZER = DETAILED
    for count in range(1, 50, 20):
        while UserTaskStatus.objects.count() < 2 * count:
            make_status(parent=make_container("celery.group"))
        with django_assert_num_queries(6):
            assert len(as_owner.get("/tasks/").json()) == 2 * count


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=In Progress", ["Part"]),
        ("done=true", ["Import"]),
        ("name=Import", ["Import"]),
        ("search=imp", ["Import"]),
        ("root=true", ["Import", "Whole"]),
        ("task_class=celery.group", ["Whole"]),
        ("modified_after=2999-01-01T00:00:00Z", []),
        ("created_before=9999-12-31T23:59:59-14:00&search=imp", ["Import"]),
        ("created_after=0001-01-01T00:00:00%2B14:00&search=imp", ["Import"]),
        (f"search={'a ' * 1000}", []),
    ],
)
def test_the_api_is_filtered_where_the_project_has_django_filter(
    as_owner: Client, workflow: UserTaskStatus, settings: Settings, query: str, expected: list[str]
) -> None:
    assert len(as_owner.get(f"/tasks/?{query}").json()) == 3
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_filters"]
    assert names(as_owner.get(f"/tasks/?{query}")) == expected
    assert names(as_owner.get(f"/tasks/?parent={workflow.uuid}")) == ["Part"]


def test_accepted_says_where_the_status_is(make_status: MakeStatus, settings: Settings) -> None:
    status = make_status()
    request = RequestFactory().post("/exports/")
    response = accepted(request, SimpleNamespace(id=status.task_id))
    assert response.status_code == HTTPStatus.ACCEPTED
    assert response.headers["Location"] == f"{SERVER}/tasks/{status.uuid}/"
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Content-Type"] == "application/json"
    assert b'"state":"Pending"' in response.content
    settings.USER_TASKS_STATUS_SERIALIZER = DetailedStatusSerializer
    assert str(status.uuid).encode() in accepted(request, SimpleNamespace(id=status.task_id)).content


def test_versions_in_the_path_of_the_api_do_no_harm(
    make_status: MakeStatus, make_container: MakeStatus, settings: Settings
) -> None:
    settings.USER_TASKS_STATUS_SERIALIZER = DetailedStatusSerializer
    status = make_container("celery.group")
    make_status(parent=status)
    request: Any = RequestFactory().post("/v1/exports/")
    request.version, request.versioning_scheme = "v1", URLPathVersioning()
    response = accepted(request, SimpleNamespace(id=status.task_id))
    assert response.headers["Location"] == f"{SERVER}/tasks/{status.uuid}/"


def test_accepted_tells_of_the_whole_workflow(make_status: MakeStatus, make_container: MakeStatus) -> None:
    chain = make_container("celery.chain", name="Whole")
    last = make_status(parent=make_container("celery.group", parent=chain))
    response = accepted(RequestFactory().post("/"), SimpleNamespace(id=last.task_id))
    assert response.headers["Location"].endswith(f"/tasks/{chain.uuid}/")


def test_accepted_needs_a_status(db: None) -> None:
    with pytest.raises(UserTaskStatus.DoesNotExist, match="Task unknown has no status"):
        accepted(RequestFactory().post("/"), SimpleNamespace(id="unknown"))
