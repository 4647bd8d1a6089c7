from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import PageNumberPagination

from user_tasks.models import UserTaskArtifact, UserTaskStatus

MOMENT = timezone.now()

pytestmark = pytest.mark.usefixtures("package_rules")


@pytest.fixture
def mine(client: Client, owner: User) -> Client:
    """The client of the owner."""
    client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def make_statuses(owner: User) -> Callable[[int], list[UserTaskStatus]]:
    """Return a factory of many statuses of one moment, named by their order, each with an artifact."""

    def make(count: int) -> list[UserTaskStatus]:
        statuses = UserTaskStatus.objects.bulk_create(
            UserTaskStatus(
                user=owner,
                task_id=str(uuid4()),
                task_class="shop.export",
                name=str(number),
                total_steps=1,
                created=MOMENT,
            )
            for number in range(count)
        )
        UserTaskArtifact.objects.bulk_create(
            UserTaskArtifact(status=status, text="long" * 1000, created=MOMENT) for status in statuses
        )
        return statuses

    return make


def names(response: Any) -> list[str]:
    return [status["name"] for status in response.json()]


def links(response: Any) -> dict[str, str]:
    return {name: url for url, name in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers["Link"])}


def test_the_newest_come_first_and_of_one_moment_the_last_made(
    mine: Client, make_status: Callable[..., UserTaskStatus]
) -> None:
    for name, age in {"old": 2, "new": 0, "first of two": 1, "second of two": 1}.items():
        make_status(name=name, created=MOMENT - timedelta(hours=age))
    assert names(mine.get("/tasks/")) == ["new", "second of two", "first of two", "old"]


def test_an_empty_list_has_one_page(mine: Client) -> None:
    response = mine.get("/tasks/", {"page": 1})
    assert (response.status_code, response.json()) == (200, [])
    assert links(response) == {"first": "http://testserver/tasks/"}


@pytest.mark.parametrize("path", ["/tasks/", "/artifacts/"])
def test_pages_of_a_hundred_are_linked_to_their_neighbours(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]], path: str
) -> None:
    make_statuses(201)
    pages = [mine.get(path)]
    while "next" in links(pages[-1]):
        pages.append(mine.get(links(pages[-1])["next"]))
    assert [len(page.json()) for page in pages] == [100, 100, 1]
    url = f"http://testserver{path}"
    assert [links(page) for page in pages] == [
        {"first": url, "next": f"{url}?page=2"},
        {"first": url, "prev": url, "next": f"{url}?page=3"},
        {"first": url, "prev": f"{url}?page=2"},
    ]


def test_pages_cover_every_status_once(mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]]) -> None:
    make_statuses(200)
    first, second = (mine.get("/tasks/", {"page": page}) for page in (1, 2))
    assert names(first) + names(second) == [str(number) for number in reversed(range(200))]
    assert "next" not in links(second)


def test_links_keep_the_other_parameters_of_the_address(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]]
) -> None:
    make_statuses(101)
    found = links(mine.get("/tasks/", {"format": "json", "q": 'a>b"c'}))
    assert found["first"] == "http://testserver/tasks/?format=json&q=a%3Eb%22c"
    assert found["next"] == "http://testserver/tasks/?format=json&page=2&q=a%3Eb%22c"


@pytest.mark.parametrize("page", ["0", "-1", "2", "1.5", "last", "x", "9" * 18, "9" * 30, "9" * 5000])
def test_a_page_that_there_is_not_is_not_found(
    mine: Client, make_status: Callable[..., UserTaskStatus], page: str
) -> None:
    make_status()
    response = mine.get("/tasks/", {"page": page})
    assert (response.status_code, response.json()) == (404, {"detail": "Invalid page."})


def test_a_list_of_a_hundred_takes_four_queries_without_counting_or_reading_texts(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]]
) -> None:
    make_statuses(101)
    with CaptureQueriesContext(connection) as queries:
        response = mine.get("/tasks/")
    assert sum(len(status["artifacts"]) for status in response.json()) == 100
    statements = [query["sql"] for query in queries]
    assert len(statements) == 4
    assert len([statement for statement in statements if "user_tasks_" in statement]) == 2
    assert not [statement for statement in statements if "COUNT(" in statement or "text" in statement]


def test_a_list_of_a_hundred_artifacts_takes_three_queries(
    mine: Client,
    make_statuses: Callable[[int], list[UserTaskStatus]],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_statuses(101)
    with django_assert_num_queries(3):
        mine.get("/artifacts/")


class TwoPerPage(PageNumberPagination):
    page_size = 2


def test_the_projects_own_pagination_decides_the_shape_and_is_read_per_request(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]], settings: Settings
) -> None:
    make_statuses(3)
    pagination = {"DEFAULT_PAGINATION_CLASS": f"{__name__}.TwoPerPage"}
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, **pagination}
    page = mine.get("/tasks/")
    assert "Link" not in page.headers
    assert (page.json()["count"], len(page.json()["results"])) == (3, 2)
    assert page.json()["next"] == "http://testserver/tasks/?page=2"

    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DEFAULT_PAGINATION_CLASS": None}
    assert names(mine.get("/tasks/")) == ["2", "1", "0"]


class FirstOnly(BaseFilterBackend):
    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        return queryset.filter(pk=queryset.order_by("pk").values("pk")[:1])


def test_filters_are_read_from_the_settings_per_request(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]], settings: Settings
) -> None:
    make_statuses(3)
    assert [len(mine.get(path).json()) for path in ("/tasks/", "/artifacts/")] == [3, 3]
    settings.USER_TASKS_STATUS_FILTERS = [f"{__name__}.FirstOnly"]
    settings.USER_TASKS_ARTIFACT_FILTERS = (FirstOnly,)
    assert [len(mine.get(path).json()) for path in ("/tasks/", "/artifacts/")] == [1, 1]


def test_a_browser_is_shown_links_to_the_pages(
    mine: Client, make_statuses: Callable[[int], list[UserTaskStatus]]
) -> None:
    make_statuses(101)
    assert 'href="http://testserver/tasks/?page=2"' in mine.get("/tasks/", headers={"Accept": "text/html"}).text
