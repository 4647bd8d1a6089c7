"""What lists and details of the API cost, beside a bare view of Django REST framework with the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from rest_framework.generics import ListAPIView
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory, force_authenticate

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.rules import add_rules
from user_tasks.serializers import ArtifactSerializer, StatusSerializer
from user_tasks.views import ArtifactViewSet, StatusViewSet

from .figures import Figure, Scale, alternate

LIST = 3.0
"""How many times a bare list a list may take."""

UNCHANGED = 0.6
"""How much of a 200 a 304 may take."""


def bare(rows: QuerySet[Any], shown: tuple[str, ...]) -> Callable[..., Any]:
    """Return a view that lists all rows of a query with the columns which ours shows, and asks for nothing."""

    class Serializer(ModelSerializer[Any]):
        class Meta:
            fields = shown

    Serializer.Meta.model = rows.model
    return ListAPIView.as_view(
        queryset=rows.order_by("-created", "-pk"), serializer_class=Serializer, permission_classes=()
    )


def columns(model: Any, serializer: Any) -> tuple[str, ...]:
    """Return what of a serializer's fields is a column."""
    return tuple(name for name in serializer.Meta.fields if name in {field.name for field in model._meta.fields})


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure lists of a hundred, and details that have changed and that have not."""
    add_rules()
    user = User.objects.create_user("views")
    statuses = UserTaskStatus.objects.bulk_create(
        UserTaskStatus(user=user, task_id=f"views-{number}", task_class="benchmark", name="Shown", total_steps=1)
        for number in range(100)
    )
    UserTaskArtifact.objects.bulk_create(UserTaskArtifact(status=status, text="done") for status in statuses)
    # Those of other parts of the benchmark are not this user's.
    lists = {
        "tasks": (StatusViewSet, UserTaskStatus.objects.filter(user=user), StatusSerializer),
        "artifacts": (ArtifactViewSet, UserTaskArtifact.objects.filter(status__user=user), ArtifactSerializer),
    }
    for name, (viewset, rows, serializer) in lists.items():
        plain = bare(rows, columns(rows.model, serializer))
        if len(_get(plain, user)().data) != len(statuses):
            raise AssertionError(f"The bare list has other {name} than ours.")
        ours = viewset.as_view({"get": "list"})
        taken = alternate({"ours": _get(ours, user), "bare": _get(plain, user)}, scale.repetitions)
        yield Figure(f"list of 100 {name}", taken["ours"] / taken["bare"], "x", LIST, "a bare view")
    for name, viewset, uuid in (
        ("task", StatusViewSet, statuses[0].uuid),
        ("artifact", ArtifactViewSet, UserTaskArtifact.objects.latest("pk").uuid),
    ):
        show = viewset.as_view({"get": "retrieve"})
        etag = _get(show, user, uuid=uuid)()["ETag"]
        changed, unchanged = _get(show, user, uuid=uuid), _get(show, user, uuid=uuid, HTTP_IF_NONE_MATCH=etag)
        taken = alternate({"200": changed, "304": unchanged}, scale.repetitions)
        # Of an artifact a 200 takes no other statement than a 304.
        budget = UNCHANGED if name == "task" else None
        yield Figure(f"{name} that has not changed (304)", taken["304"] / taken["200"], "x", budget, "a 200")


def _get(view: Callable[..., Any], user: User, uuid: Any = None, **headers: Any) -> Callable[[], Any]:
    known = {} if uuid is None else {"uuid": uuid}

    # It is the view that is measured, not how requests are made, which is the server's part.
    request = APIRequestFactory().get("/", **headers)
    force_authenticate(request, user)

    def get() -> Any:
        response = view(request, **known)
        return response.render() if hasattr(response, "render") else response

    return get
