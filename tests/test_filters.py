from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import RequestFactory

from user_tasks.conf import settings
from user_tasks.filters import ArtifactFilterBackend, StatusFilterBackend
from user_tasks.models import UserTaskArtifact, UserTaskStatus


@pytest.fixture
def shown(
    owner: User,
    make_user: Callable[..., User],
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
) -> Callable[..., tuple[list[str], list[str]]]:
    """Tell which statuses and artifacts the filters leave for a user, with one of the owner and one of another."""
    for user in (owner, make_user("other")):
        make_artifact(make_status(user=user, name=f"Export of {user}"), name=f"Output of {user}")

    def names(user: User | AnonymousUser) -> tuple[list[str], list[str]]:
        request: Any = RequestFactory().get("/")
        request.user = user
        statuses = StatusFilterBackend().filter_queryset(request, UserTaskStatus.objects.order_by("pk"), None)
        artifacts = ArtifactFilterBackend().filter_queryset(request, UserTaskArtifact.objects.order_by("pk"), None)
        return [status.name for status in statuses], [artifact.name for artifact in artifacts]

    return names


def test_they_take_whatever_query_a_project_brings(owner: User, make_status: Callable[..., UserTaskStatus]) -> None:
    status = make_status()
    request: Any = RequestFactory().get("/")
    request.user = owner

    plain = UserTaskStatus._base_manager.get_queryset()

    assert list(StatusFilterBackend().filter_queryset(request, plain, None)) == [status]


def test_users_are_shown_what_they_triggered(owner: User, shown: Callable[..., Any]) -> None:
    assert shown(owner) == (["Export of owner"], ["Output of owner"])


def test_superusers_are_shown_all(make_user: Callable[..., User], shown: Callable[..., Any]) -> None:
    everything = (["Export of owner", "Export of other"], ["Output of owner", "Output of other"])
    assert shown(make_user(is_superuser=True)) == everything


def test_anonymous_users_are_shown_nothing(shown: Callable[..., Any]) -> None:
    assert shown(AnonymousUser()) == ([], [])


def test_they_are_the_filters_of_the_settings() -> None:
    filters = (settings.USER_TASKS_STATUS_FILTERS, settings.USER_TASKS_ARTIFACT_FILTERS)
    assert filters == ((StatusFilterBackend,), (ArtifactFilterBackend,))
