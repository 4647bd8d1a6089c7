from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, path
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.filters import SearchFilter
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.routers import SimpleRouter

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.serializers import ArtifactSerializer, StatusSerializer
from user_tasks.urls import ROUTER
from user_tasks.urls import urlpatterns as package_urlpatterns
from user_tasks.views import ArtifactViewSet, DjangoObjectPermissionsIncludingView, StatusViewSet


class NamedSerializer(StatusSerializer):
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = StatusSerializer.Meta.model
        fields = (*StatusSerializer.Meta.fields, "uuid", "username")


class ExportViewSet(StatusViewSet):
    """What a project makes of it: its own rows, shape, filters, permissions, pages, key and codes."""

    queryset = StatusViewSet.queryset.filter(task_class="shop.export").distinct().order_by("name")
    serializer_class = NamedSerializer
    filter_backends = (*StatusViewSet.filter_backends, SearchFilter)
    search_fields = ("name",)
    permission_classes = (IsAuthenticated, DjangoObjectPermissionsIncludingView)
    pagination_class = LimitOffsetPagination
    http_method_names = ["get", "post", "head"]
    lookup_field = "task_id"
    cancel_status_code = 200

    @action(detail=True, methods=["post"])
    def cancel(  # type: ignore[override]  # the stubs count an action's own class as an argument
        self, request: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().cancel(request, *args, **kwargs)
        response.headers["X-Canceled-By"] = request.user.username
        return response


class NestedSerializer(StatusSerializer):
    artifacts = ArtifactSerializer(many=True, read_only=True)


class NestedViewSet(StatusViewSet):
    serializer_class = NestedSerializer
    pagination_class = None

    def get_queryset(self) -> Any:
        return UserTaskStatus.objects.prefetch_related("artifacts__status").order_by("name")


class ClosedArtifactViewSet(ArtifactViewSet):
    filter_backends = ()
    permission_classes = ()


class RepeatingViewSet(StatusViewSet):
    def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response: Any = super().retrieve(request, *args, **kwargs)
        response.data["times"] = 2
        return response


class EditableViewSet(StatusViewSet):
    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return self.retrieve(request, *args, **kwargs)


class FoundOtherwiseViewSet(StatusViewSet):
    def get_object(self) -> Any:
        return UserTaskStatus.objects.get(uuid=self.kwargs["uuid"])


router = SimpleRouter()
router.register("exports", ExportViewSet, basename="export")
router.register("nested", NestedViewSet, basename="nested")
router.register("open", ClosedArtifactViewSet, basename="open")
router.register("repeating", RepeatingViewSet, basename="repeating")
router.register("editable", EditableViewSet, basename="editable")
router.register("otherwise", FoundOtherwiseViewSet, basename="otherwise")
without_filters = StatusViewSet.as_view({"get": "list"}, filter_backends=(), pagination_class=None)
urlpatterns = [*package_urlpatterns, *router.urls, path("unfiltered/", without_filters)]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("package_rules")]


@pytest.fixture
def mine(client: Client, owner: User) -> Client:
    """The client of the owner."""
    client.force_login(owner, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def status(make_status: Callable[..., UserTaskStatus]) -> UserTaskStatus:
    """A status of the owner."""
    return make_status(task_id="export-1")


def test_the_router_and_a_plain_list_of_its_urls_are_there_to_include() -> None:
    assert isinstance(package_urlpatterns, list)
    assert package_urlpatterns == ROUTER.urls
    assert {pattern.name for pattern in package_urlpatterns if isinstance(pattern, URLPattern)} == {
        "usertaskstatus-list",
        "usertaskstatus-detail",
        "usertaskstatus-cancel",
        "usertaskartifact-list",
        "usertaskartifact-detail",
        "usertaskartifact-download",
        "usertaskartifact-shared",
    }


def test_a_subclass_has_its_own_rows_filters_and_pages(
    mine: Client, make_status: Callable[..., UserTaskStatus], make_user: Callable[..., User]
) -> None:
    for name in ("May", "April", "June"):
        make_status(name=name)
    make_status(name="April", task_class="shop.import")
    make_status(name="April", user=make_user())
    page = mine.get("/exports/", {"limit": 2}).json()
    assert (page["count"], [status["name"] for status in page["results"]]) == (3, ["April", "June"])
    assert [status["name"] for status in mine.get("/exports/", {"search": "ay"}).json()] == ["May"]


def test_a_subclass_has_its_own_key_and_fields(mine: Client, status: UserTaskStatus) -> None:
    shown = mine.get("/exports/export-1/").json()
    assert (shown["uuid"], shown["username"]) == (str(status.uuid), "owner")
    assert mine.get(f"/exports/{status.uuid}/").status_code == 404


def test_a_subclass_cancels_with_its_own_code_and_serializer(mine: Client, status: UserTaskStatus) -> None:
    response = mine.post("/exports/export-1/cancel/")
    assert (response.status_code, response.headers["X-Canceled-By"]) == (200, "owner")
    assert (response.json()["state"], response.json()["username"]) == ("Canceled", "owner")


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PUT"])
def test_a_method_that_a_subclass_took_away_is_not_allowed(mine: Client, status: UserTaskStatus, method: str) -> None:
    assert mine.generic(method, "/exports/export-1/").status_code == 405


def test_a_method_that_a_subclass_added_asks_for_the_permission_to_change(
    mine: Client, status: UserTaskStatus, admin_client: Client
) -> None:
    url = f"/editable/{status.uuid}/"
    answers = [client.patch(url, {"name": "June"}, content_type="application/json") for client in (mine, admin_client)]
    assert [answer.status_code for answer in answers] == [403, 200]
    assert answers[1].json()["name"] == "June"


def test_what_a_subclass_shows_beside_the_row_is_never_told_to_be_unchanged(
    mine: Client, owner: User, status: UserTaskStatus
) -> None:
    assert "ETag" not in mine.get("/exports/export-1/").headers
    for url in (f"/repeating/{status.uuid}/", f"/otherwise/{status.uuid}/"):
        response = mine.get(url, headers={"If-None-Match": "*", "If-Match": '"x"'})
        assert (response.status_code, "ETag" in response.headers) == (200, False)
    assert mine.get(f"/repeating/{status.uuid}/").json()["times"] == 2


def test_artifacts_that_a_subclass_shows_in_full_are_read_as_it_says(
    mine: Client,
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(3):
        make_artifact(make_status(name=str(number)), text=str(number))
    with django_assert_num_queries(2 + 2):
        shown = mine.get("/nested/").json()
    assert [status["artifacts"][0]["text"] for status in shown] == ["0", "1", "2"]


def test_a_list_without_pages_reads_the_artifacts_at_once_too(
    mine: Client,
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(3):
        make_artifact(make_status())
    with django_assert_num_queries(2 + 2):
        assert [len(status["artifacts"]) for status in mine.get("/unfiltered/").json()] == [1, 1, 1]


def test_filters_and_permissions_can_be_taken_away(
    client: Client, status: UserTaskStatus, make_artifact: Callable[..., UserTaskArtifact]
) -> None:
    artifact = make_artifact(status)
    assert client.get(f"/open/{artifact.uuid}/").status_code == 200


def test_filters_passed_to_as_view_win_over_the_settings(
    mine: Client, make_user: Callable[..., User], make_status: Callable[..., UserTaskStatus], settings: Settings
) -> None:
    make_status(user=make_user())
    assert mine.get("/tasks/").json() == []
    assert len(mine.get("/unfiltered/").json()) == 1
