"""What drf-spectacular cannot see of the API by itself: headers, and the answers beside the successful one."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework.schemas import DefaultSchema
from rest_framework.schemas.inspectors import ViewInspector
from rest_framework.serializers import CharField

from . import searching
from .examples import EXAMPLES
from .pagination import LinkPagination
from .states import State

ERROR = inline_serializer("UserTaskError", {"detail": CharField(help_text="What was wrong, for people")})


def _error(description: str, detail: str) -> OpenApiResponse:
    return OpenApiResponse(ERROR, description, [OpenApiExample("Reason", {"detail": detail})])


UNAUTHENTICATED = _error("Not logged in", "Authentication credentials were not provided.")
FORBIDDEN = _error("Not logged in, or not allowed to do this", "You do not have permission to perform this action.")
NOT_FOUND = _error("No such object, or none that the user may view", "Not found.")
NOT_ACCEPTABLE = _error("No format that Accept asks for", "Could not satisfy the request Accept header.")
THROTTLED = _error("Too many requests", "Request was throttled. Expected available in 3 seconds.")

MESSAGES = {"type": "array", "items": {"type": "string"}}

NOT_UNDERSTOOD = OpenApiResponse(
    {"anyOf": [{"type": "object", "additionalProperties": MESSAGES}, MESSAGES]},
    "A parameter that says nothing; what was wrong with each",
    [OpenApiExample("No uuid", {"parent": ["Enter a valid UUID."]})],
)

ANY_TYPE = "*/*"
"""A file is sent as what it is."""

DOWNLOADED: dict[Any, Any] = {
    (206, ANY_TYPE): OpenApiResponse(OpenApiTypes.BINARY, "The part of it that Range asks for"),
    302: OpenApiResponse(description="Where the storage sends it from, for some minutes"),
    304: OpenApiResponse(description="The client's copy is still right"),
    412: OpenApiResponse(description="The file is not in the version that If-Match asks for"),
    416: OpenApiResponse(description="It has none of the bytes that Range asks for"),
}
"""Answers with a file."""

ANSWERS: dict[str, dict[Any, Any]] = {
    "list": {403: FORBIDDEN, 404: _error("No such page", "Invalid page.")},
    "retrieve": {
        304: OpenApiResponse(description="The client's copy is still right"),
        403: FORBIDDEN,
        404: NOT_FOUND,
        412: OpenApiResponse(description="The object is not in the version that If-Match asks for"),
    },
    "destroy": {
        403: FORBIDDEN,
        404: NOT_FOUND,
        409: _error(
            "Other tables refer to it; the detail names what",
            "It cannot be deleted, because these refer to it: invoices.",
        ),
    },
    "cancel": {403: FORBIDDEN, 404: NOT_FOUND},
    "download": {
        **DOWNLOADED,
        403: FORBIDDEN,
        404: NOT_FOUND,
        410: _error("The file had its time", "The file was kept until Nov. 22, 2026."),
    },
    "shared": {
        **DOWNLOADED,
        404: _error("No such link, or no such object any more", "Not found."),
        (410, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "The link, or the file, had its time"),
    },
}
"""Answers beside the successful one, by action."""


def _header(name: str, description: str, type_: type = str, codes: Any = True) -> OpenApiParameter:
    return OpenApiParameter(name, type_, OpenApiParameter.HEADER, description=description, response=codes)


CACHING = [_header("Cache-Control", "private, no-cache"), _header("Vary", "Accept-Language, Cookie, and others")]

VERSION = [
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="ETag of the client's copy"),
    OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="ETag of the version asked for"),
]

SENT = [
    *CACHING,
    *VERSION,
    OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="Which part is asked for, such as bytes=0-99"),
    OpenApiParameter("If-Range", str, OpenApiParameter.HEADER, description="ETag of the part that the client has"),
    _header("ETag", "The version", codes=[200, 206, 304]),
    _header("Last-Modified", "When it was made", codes=[200, 206, 304]),
    _header("Content-Disposition", "To save it, and its name", codes=[200, 206]),
    _header("Content-Range", "Which part of it this is", codes=[206, 416]),
    _header("Location", "Where it is sent from", codes=[302]),
]
"""Headers of downloads."""

HEADERS = {
    "download": SENT,
    "shared": SENT,
    "list": CACHING,
    "retrieve": [
        *CACHING,
        *VERSION,
        _header("ETag", "The version; none where the file's URL is signed, for that expires", codes=[200, 304]),
    ],
    "destroy": CACHING,
    "cancel": CACHING,
}
"""Headers of requests and answers, by action."""

LINK = OpenApiParameter(
    "Link",
    str,
    OpenApiParameter.HEADER,
    description="Where other pages are: first, prev and next of RFC 8288; without next, this page is the last",
    examples=[
        OpenApiExample(
            "The first of several pages",
            '<https://shop.example/tasks/>; rel="first", <https://shop.example/tasks/?page=2>; rel="next"',
        )
    ],
    response=[200],
)

RETRY_AFTER = _header("Retry-After", "Seconds to wait between questions, while it is unfinished", int, [200, 304])

THROTTLED_FOR = _header("Retry-After", "Seconds to wait until the next request", int, [429])

CHALLENGE = _header("WWW-Authenticate", "How to log in", codes=[401])


class DescribedAutoSchema(AutoSchema):
    """Adds the headers, the answers beside the successful one, and examples."""

    view: Any

    @property
    def polled(self) -> bool:
        """Whether the answer says when to ask again."""
        return self.view.action == "retrieve" and hasattr(self.view, "retry_after")

    @property
    def linked(self) -> bool:
        """Whether a header tells where other pages are."""
        return self.view.action == "list" and isinstance(getattr(self.view, "paginator", None), LinkPagination)

    @property
    def challenges(self) -> bool:
        """Whether those who are not logged in are told how to, by 401 instead of 403."""
        authenticators = self.view.get_authenticators()
        return bool(authenticators and authenticators[0].authenticate_header(self.view.request))

    @property
    def filtered(self) -> bool:
        """Whether query parameters of ours are looked at, and may be refused."""
        return self.view.action == "list" and not set(searching.backends()).isdisjoint(self.view.filter_backends)

    @property
    def sends_file(self) -> bool:
        """Whether the answer is a file, whatever formats are asked for."""
        return self.view.action in ("download", "shared")

    @property
    def throttled(self) -> bool:
        """Whether too many requests are refused."""
        return bool(self.view.get_throttles())

    @property
    def is_named(self) -> bool:
        """Whether the path says what the operation does."""
        return self.view.action == "cancel" or self.sends_file

    def get_operation_id(self) -> str:
        """Return a name for clients to call it by."""
        name = super().get_operation_id()
        return name.removesuffix("_create" if self.view.action == "cancel" else "_retrieve") if self.is_named else name

    def get_examples(self) -> list[OpenApiExample]:
        """Return what the package's own serializers answer."""
        key = self.view.get_serializer_class(), self.view.action == "cancel"
        examples = EXAMPLES.get(key, {}).items() if self.view.action in ANSWERS and not self.sends_file else ()
        return [*super().get_examples(), *(OpenApiExample(name, value, response_only=True) for name, value in examples)]

    def get_override_parameters(self) -> list[Any]:
        """Return the headers of the requests and of the answers."""
        own = self.view.action in ANSWERS
        conditional = {
            LINK: self.linked,
            RETRY_AFTER: self.polled,
            THROTTLED_FOR: own and self.throttled,
            CHALLENGE: own and self.challenges,
        }
        headers = [*HEADERS.get(self.view.action, []), *(header for header, is_sent in conditional.items() if is_sent)]
        return [*super().get_override_parameters(), *headers]

    def get_request_serializer(self) -> Any:
        """Return None for a cancellation: it takes no body."""
        return None if self.view.action == "cancel" else super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        """Return what each status code comes with."""
        answer = super().get_response_serializers()
        if self.view.action not in ANSWERS:
            return answer
        success: dict[str, dict[Any, Any]] = {
            "download": {(200, ANY_TYPE): OpenApiResponse(OpenApiTypes.BINARY, "The file, or else the text")},
            "shared": {(200, ANY_TYPE): OpenApiResponse(OpenApiTypes.BINARY, "The file, or else the text")},
            "destroy": {204: OpenApiResponse(description="Deleted, its artifacts with it")},
            "cancel": {getattr(self.view, "cancel_status_code", 200): answer},
        }
        return {
            **success.get(self.view.action, {200: answer}),
            **ANSWERS[self.view.action],
            **({400: NOT_UNDERSTOOD} if self.filtered else {}),
            **({401: UNAUTHENTICATED} if self.challenges else {}),
            **({} if self.sends_file else {406: NOT_ACCEPTABLE}),
            **({429: THROTTLED} if self.throttled else {}),
        }


class OutputSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # not annotated there
    """Tells that all fields are in each answer of a view that takes none of them."""

    match_subclasses = True
    target_class = "user_tasks.serializers.ArtifactSerializer"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        """Return the schema of the object."""
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        if direction == "response" and not any(hasattr(auto_schema.view, name) for name in ("create", "update")):
            schema["required"] = sorted(schema["properties"])
            for name, field in schema["properties"].items():
                schema["properties"][name] = _read_only(field)
        return schema


class StatusSerializerExtension(OutputSerializerExtension):  # type: ignore[no-untyped-call]  # not annotated there
    """Names the states, of which there may be more."""

    target_class = "user_tasks.serializers.StatusSerializer"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        """Return the schema of the object."""
        schema = super().map_serializer(auto_schema, direction)
        field = self.target.fields.get("state")
        if type(field) is CharField and "state" not in self.target._declared_fields:
            state = schema["properties"]["state"]
            kept = {key: state[key] for key in ("description", "readOnly") if key in state}
            schema["properties"]["state"] = {"anyOf": [_known_states(auto_schema), {"type": "string"}], **kept}
        return schema


def _read_only(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if "$ref" in schema else {**schema, "readOnly": True}


def _known_states(auto_schema: Any) -> Any:
    """Return a reference to the states that the package itself sets."""
    schema = {
        "type": "string",
        "enum": State.values,
        "description": (
            "The states that every task may come to. Beside them a task in progress may show any other text, "
            "in its own words: what is not listed here is a state of its own, and not a final one."
        ),
    }
    make_component: Any = ResolvedComponent
    component = make_component("KnownState", ResolvedComponent.SCHEMA, schema=schema, object="KnownState")
    auto_schema.registry.register_on_missing(component)
    return component.ref


class DescribedSchema(DefaultSchema):
    """The project's own kind of schema, and where that is drf-spectacular's, with our additions."""

    def __get__(self, instance: Any, owner: Any) -> ViewInspector:
        found = super().__get__(instance, owner)
        schema_class: Any = type(found)
        if not issubclass(schema_class, AutoSchema):
            return found
        described: ViewInspector = _described(schema_class)()
        described.view = instance
        return described


@cache
def _described(schema_class: type[Any]) -> type[Any]:
    return type("ProjectSchema", (DescribedAutoSchema, schema_class), {})
