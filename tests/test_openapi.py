from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema
from drf_spectacular.validation import validate_schema
from jsonschema import Draft4Validator, FormatChecker
from pytest_django import Settings
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.routers import SimpleRouter
from rest_framework.schemas.openapi import AutoSchema as PlainAutoSchema

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.serializers import StatusSerializer
from user_tasks.views import StatusViewSet

CODES = {
    ("/tasks/", "get"): {"200", "403", "404"},
    ("/tasks/{uuid}/", "get"): {"200", "304", "403", "404", "412"},
    ("/tasks/{uuid}/", "delete"): {"204", "403", "404", "409"},
    ("/tasks/{uuid}/cancel/", "post"): {"201", "403", "404"},
    ("/artifacts/", "get"): {"200", "403", "404"},
    ("/artifacts/{uuid}/", "get"): {"200", "304", "403", "404", "412"},
}

FORMATS = FormatChecker([])
FORMATS.checks("date-time", raises=ValueError)(lambda value: datetime.fromisoformat(value).tzinfo is not None)
FORMATS.checks("uri")(lambda value: bool(urlsplit(value).scheme))


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


def described(viewset: type[StatusViewSet]) -> Any:
    router = SimpleRouter()
    router.register("exports", viewset, basename="export")
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
    assert headers == {
        ("/tasks/", "get"): {*caching, "Link"},
        ("/tasks/{uuid}/", "get"): {*caching, "ETag", "Retry-After"},
        ("/tasks/{uuid}/", "delete"): caching,
        ("/tasks/{uuid}/cancel/", "post"): caching,
        ("/artifacts/", "get"): {*caching, "Link"},
        ("/artifacts/{uuid}/", "get"): {*caching, "ETag"},
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
        ("/tasks/{uuid}/", "get"): [admin_client.get(task), admin_client.get("/tasks/x/")],
        ("/tasks/{uuid}/cancel/", "post"): [admin_client.post(f"{task}cancel/"), client.post(f"{task}cancel/")],
        ("/tasks/{uuid}/", "delete"): [client.delete(task), admin_client.delete("/tasks/x/")],
    }
    for call, responses in answers.items():
        for response in responses:
            answer = operations(description)[call]["responses"][str(response.status_code)]
            schema = {**answer["content"]["application/json"]["schema"], "components": description["components"]}
            Draft4Validator(schema, format_checker=FORMATS).validate(response.json())


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
    assert set(answers) == {"200", "403", "404"}
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
