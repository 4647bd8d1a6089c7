from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import extend_schema
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator, FormatChecker
from pytest_django import Settings
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication
from rest_framework.decorators import action
from rest_framework.mixins import UpdateModelMixin
from rest_framework.pagination import CursorPagination
from rest_framework.routers import SimpleRouter
from rest_framework.schemas.openapi import AutoSchema as PlainAutoSchema
from rest_framework.throttling import UserRateThrottle

from user_tasks.detailed import DetailedArtifactSerializer, DetailedStatusSerializer
from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.serializers import ArtifactSerializer, StatusSerializer
from user_tasks.views import ArtifactViewSet, StatusViewSet

pytestmark = pytest.mark.embedded

CODES = {
    ("/tasks/", "get"): {"200", "403", "404", "406"},
    ("/tasks/{uuid}/", "get"): {"200", "304", "403", "404", "406", "412"},
    ("/tasks/{uuid}/", "delete"): {"204", "403", "404", "406", "409"},
    ("/tasks/{uuid}/cancel/", "post"): {"201", "403", "404", "406"},
    ("/artifacts/", "get"): {"200", "403", "404", "406"},
    ("/artifacts/{uuid}/", "get"): {"200", "304", "403", "404", "406", "412"},
    ("/artifacts/{uuid}/download/", "get"): {"200", "206", "302", "304", "403", "404", "410", "412", "416"},
    ("/artifacts/shared/{token}/", "get"): {"200", "206", "302", "304", "404", "410", "412", "416"},
}

DOWNLOAD, SHARED = ("/artifacts/{uuid}/download/", "get"), ("/artifacts/shared/{token}/", "get")

FORMATS = FormatChecker([])
FORMATS.checks("date-time", raises=ValueError)(
    lambda value: value is None or datetime.fromisoformat(value).tzinfo is not None
)
FORMATS.checks("uri")(lambda value: value is None or bool(urlsplit(value).scheme))


@pytest.fixture(scope="module")
def description() -> Any:
    """The description of the API as the command writes it, without a warning."""
    output = StringIO()
    call_command("spectacular", fail_on_warn=True, validate=True, stdout=output)
    return yaml.safe_load(output.getvalue())


def operations(description: Any) -> dict[tuple[str, str], Any]:
    return {
        (path, method): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def described(viewset: type[StatusViewSet], outputs: type[ArtifactViewSet] | None = None) -> Any:
    router = SimpleRouter()
    router.register("exports", viewset, basename="export")
    if outputs:
        router.register("outputs", outputs, basename="output")
    generator: Any = SchemaGenerator
    validate: Any = validate_schema
    description = generator(patterns=router.urls).get_schema(public=True)
    validate(description)
    return description


def test_every_answer_of_every_call_is_described(description: Any) -> None:
    answers = {call: set(operation["responses"]) for call, operation in operations(description).items()}
    assert answers == CODES


def test_headers_of_answers_are_described(description: Any) -> None:
    headers = {
        call: {name for answer in operation["responses"].values() for name in answer.get("headers", {})}
        for call, operation in operations(description).items()
    }
    caching = {"Cache-Control", "Vary"}
    sent = {*caching, "ETag", "Last-Modified", "Content-Disposition", "Content-Range", "Location"}
    assert headers == {
        ("/tasks/", "get"): {*caching, "Link"},
        ("/tasks/{uuid}/", "get"): {*caching, "ETag", "Retry-After"},
        ("/tasks/{uuid}/", "delete"): caching,
        ("/tasks/{uuid}/cancel/", "post"): caching,
        ("/artifacts/", "get"): {*caching, "Link"},
        ("/artifacts/{uuid}/", "get"): {*caching, "ETag"},
        ("/artifacts/{uuid}/download/", "get"): sent,
        ("/artifacts/shared/{token}/", "get"): sent,
    }


def test_parameters_and_bodies_of_calls_are_described(description: Any) -> None:
    takes = {
        call: {parameter["name"] for parameter in operation.get("parameters", [])} | ({"requestBody"} & set(operation))
        for call, operation in operations(description).items()
    }
    assert takes == {
        ("/tasks/", "get"): {"page"},
        ("/tasks/{uuid}/", "get"): {"uuid", "If-None-Match", "If-Match"},
        ("/tasks/{uuid}/", "delete"): {"uuid"},
        ("/tasks/{uuid}/cancel/", "post"): {"uuid"},
        ("/artifacts/", "get"): {"page"},
        ("/artifacts/{uuid}/", "get"): {"uuid", "If-None-Match", "If-Match"},
        ("/artifacts/{uuid}/download/", "get"): {"uuid", "If-None-Match", "If-Match", "If-Range", "Range"},
        ("/artifacts/shared/{token}/", "get"): {"token", "If-None-Match", "If-Match", "If-Range", "Range"},
    }


def test_answers_are_as_described(
    description: Any,
    admin_client: Client,
    client: Client,
    make_status: Callable[..., UserTaskStatus],
    make_artifact: Callable[..., UserTaskArtifact],
) -> None:
    status = make_status()
    artifact = make_artifact(status)
    task, output = f"/tasks/{status.uuid}/", f"/artifacts/{artifact.uuid}/"
    answers = {
        ("/tasks/", "get"): [admin_client.get("/tasks/"), client.get("/tasks/"), admin_client.get("/tasks/?page=9")],
        ("/artifacts/", "get"): [admin_client.get("/artifacts/"), client.get("/artifacts/")],
        ("/artifacts/{uuid}/", "get"): [admin_client.get(output), admin_client.get("/artifacts/x/")],
        ("/tasks/{uuid}/", "get"): [
            admin_client.get(task),
            admin_client.get("/tasks/x/"),
            admin_client.get(task, HTTP_ACCEPT="text/csv"),
        ],
        ("/tasks/{uuid}/cancel/", "post"): [admin_client.post(f"{task}cancel/"), client.post(f"{task}cancel/")],
        ("/tasks/{uuid}/", "delete"): [client.delete(task), admin_client.delete("/tasks/x/")],
    }
    for call, responses in answers.items():
        for response in responses:
            Draft202012Validator(body_of(description, call, response), format_checker=FORMATS).validate(response.json())


def body_of(description: Any, call: tuple[str, str], response: Any) -> Any:
    """Return the schema of the body that an answer has, by its code and content type."""
    content = operations(description)[call]["responses"][str(response.status_code)]["content"]
    kind = response.headers["Content-Type"].partition(";")[0]
    return {**(content.get(kind) or content["*/*"])["schema"], "components": description["components"]}


@pytest.mark.parametrize("query", ["parent=x", "created_after=soon", "modified_before=1&done=true", "search=%00"])
def test_what_filters_do_not_understand_is_described(admin_client: Client, settings: Settings, query: str) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django_filters"]
    description = described(StatusViewSet, ArtifactViewSet)

    response = admin_client.get(f"/tasks/?{query}")

    assert response.status_code == HTTPStatus.BAD_REQUEST
    Draft202012Validator(body_of(description, ("/exports/", "get"), response)).validate(response.json())
    answers = {call: set(operation["responses"]) for call, operation in operations(description).items()}
    assert [call for call, codes in answers.items() if "400" in codes] == [("/exports/", "get")]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"text": "a,b"}, "text/plain"), ({"text": "{}", "content_type": "application/json"}, "application/json")],
)
def test_downloads_are_described_with_any_type_and_the_refusals_with_theirs(
    description: Any, admin_client: Client, make_status: Callable[..., UserTaskStatus], fields: Any, kind: str
) -> None:
    artifact = UserTaskArtifact.objects.create(status=make_status(), **fields)
    path, binary = f"/artifacts/{artifact.uuid}/download/", {"type": "string", "format": "binary"}
    sent = admin_client.get(path)
    part = admin_client.get(path, headers={"range": "bytes=0-0"})
    link = admin_client.get(artifact.signed_url(timedelta(minutes=1)))
    expired = admin_client.get(artifact.signed_url(timedelta(0)))

    for call, response, status_code in ((DOWNLOAD, sent, 200), (DOWNLOAD, part, 206), (SHARED, link, 200)):
        assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (status_code, kind)
        answer = operations(description)[call]["responses"][str(status_code)]
        assert answer["content"] == {"*/*": {"schema": binary}}
    assert body_of(description, SHARED, expired)["type"] == "string"
    missing = admin_client.get("/artifacts/x/download/")
    Draft202012Validator(body_of(description, DOWNLOAD, missing)).validate(missing.json())


def test_operations_have_names_to_call_them_by(description: Any) -> None:
    names = {call: operation["operationId"] for call, operation in operations(description).items()}
    assert names == {
        ("/tasks/", "get"): "tasks_list",
        ("/tasks/{uuid}/", "get"): "tasks_retrieve",
        ("/tasks/{uuid}/", "delete"): "tasks_destroy",
        ("/tasks/{uuid}/cancel/", "post"): "tasks_cancel",
        ("/artifacts/", "get"): "artifacts_list",
        ("/artifacts/{uuid}/", "get"): "artifacts_retrieve",
        ("/artifacts/{uuid}/download/", "get"): "artifacts_download",
        ("/artifacts/shared/{token}/", "get"): "artifacts_shared",
    }


def test_states_are_named_and_others_are_allowed(description: Any) -> None:
    schemas = description["components"]["schemas"]
    known, other = schemas["Status"]["properties"]["state"]["anyOf"]
    assert known == {"$ref": "#/components/schemas/KnownState"}
    assert schemas["KnownState"]["enum"] == list(UserTaskStatus.STATE_TRANSLATIONS)
    assert "any other text" in schemas["KnownState"]["description"]
    assert other == {"type": "string"}


@pytest.mark.parametrize("name", ["Status", "Artifact"])
def test_every_field_is_in_every_answer(description: Any, name: str) -> None:
    schema = description["components"]["schemas"][name]
    assert set(schema["required"]) == set(schema["properties"])
    assert all(field["readOnly"] for field in schema["properties"].values())


@pytest.mark.parametrize(
    ("of_statuses", "of_artifacts"),
    [(StatusSerializer, ArtifactSerializer), (DetailedStatusSerializer, DetailedArtifactSerializer)],
)
def test_every_answer_with_a_body_has_examples_that_fit_it(of_statuses: Any, of_artifacts: Any) -> None:
    statuses = type("ExportViewSet", (StatusViewSet,), {"serializer_class": of_statuses})
    artifacts = type("FileViewSet", (ArtifactViewSet,), {"serializer_class": of_artifacts})
    description = described(statuses, artifacts)
    bodies = [
        answer["content"]["application/json"]
        for operation in operations(description).values()
        for answer in operation["responses"].values()
        if "application/json" in answer.get("content", {})
    ]
    assert len(bodies) >= 25
    for body in bodies:
        assert body["examples"]
        schema = {**body["schema"], "components": description["components"]}
        for example in body["examples"].values():
            Draft202012Validator(schema, format_checker=FORMATS).validate(example["value"])
            answers = example["value"] if isinstance(example["value"], list) else [example["value"]]
            assert all(set(answer) == fields_of(body["schema"], description) for answer in answers)


def fields_of(schema: Any, description: Any) -> set[str]:
    """Return the fields of an object, or of those in a list of it."""
    while "properties" not in schema:
        schema = schema.get("items") or description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema["properties"])


def test_it_is_described_in_the_older_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectacular_settings, "OAS_VERSION", "3.0.3")
    assert described(StatusViewSet)["openapi"] == "3.0.3"


class NamedSerializer(StatusSerializer):
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = StatusSerializer.Meta.model
        fields = (*StatusSerializer.Meta.fields, "username")


class NamedViewSet(StatusViewSet):
    serializer_class = NamedSerializer
    cancel_status_code = 200

    @action(detail=True, methods=["post"])
    def restart(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def test_a_subclass_is_described_with_its_own_serializer_code_and_actions() -> None:
    description = described(NamedViewSet)
    answers = operations(description)["/exports/{uuid}/cancel/", "post"]["responses"]
    assert set(answers) == {"200", "403", "404", "406"}
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Named"}
    assert set(operations(description)["/exports/{uuid}/restart/", "post"]["responses"]) == {"200"}
    assert "username" in description["components"]["schemas"]["Named"]["properties"]


class SummarizedViewSet(StatusViewSet):
    @extend_schema(summary="How far an export is")
    def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(request, *args, **kwargs)


def test_a_subclass_may_extend_the_description() -> None:
    operation = operations(described(SummarizedViewSet))["/exports/{uuid}/", "get"]
    assert operation["summary"] == "How far an export is"
    assert set(operation["responses"]) == CODES["/tasks/{uuid}/", "get"]


class ProjectAutoSchema(AutoSchema):
    def get_tags(self) -> list[str]:
        return ["project"]


@pytest.mark.parametrize("schema_class", [ProjectAutoSchema, PlainAutoSchema])
def test_the_projects_own_schema_class_is_used(settings: Settings, schema_class: type[Any]) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DEFAULT_SCHEMA_CLASS": schema_class}
    assert isinstance(StatusViewSet().schema, schema_class)
    if schema_class is ProjectAutoSchema:
        operation = operations(described(StatusViewSet))["/exports/{uuid}/", "get"]
        assert operation["tags"] == ["project"]
        assert set(operation["responses"]) == CODES["/tasks/{uuid}/", "get"]


class ChangingViewSet(UpdateModelMixin, NamedViewSet):
    pass


def test_a_view_that_takes_fields_may_do_without_some() -> None:
    schema = described(ChangingViewSet)["components"]["schemas"]["Named"]
    assert "attempts" not in schema["required"]
    assert "readOnly" not in schema["properties"]["name"]


class StateSerializer(StatusSerializer):
    state: Any = serializers.IntegerField(read_only=True)


class StateViewSet(StatusViewSet):
    serializer_class = StateSerializer


def test_a_state_of_a_projects_own_is_described_as_the_project_says() -> None:
    properties = described(StateViewSet)["components"]["schemas"]["State"]["properties"]
    assert properties["state"] == {"type": "integer", "readOnly": True}


class GuardedViewSet(StatusViewSet):
    authentication_classes = [BasicAuthentication]
    throttle_classes = [UserRateThrottle]


def test_answers_of_the_projects_authentication_and_throttles_are_described() -> None:
    for call, operation in operations(described(GuardedViewSet)).items():
        answers = operation["responses"]
        assert set(answers) == {*CODES["/tasks" + call[0].removeprefix("/exports"), call[1]], "401", "429"}
        assert "WWW-Authenticate" in answers["401"]["headers"]
        assert answers["429"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}


class CursorViewSet(StatusViewSet):
    pagination_class = CursorPagination


def test_a_pagination_of_the_projects_own_has_no_link_header() -> None:
    answer = operations(described(CursorViewSet))["/exports/", "get"]["responses"]["200"]
    assert set(answer["headers"]) == {"Cache-Control", "Vary"}
