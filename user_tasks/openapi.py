"""What drf-spectacular cannot see of the API by itself: headers, and the answers beside the successful one."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework.schemas import DefaultSchema
from rest_framework.schemas.inspectors import ViewInspector
from rest_framework.serializers import CharField

ERROR = inline_serializer("UserTaskError", {"detail": CharField(help_text="What was wrong, for people")})

FORBIDDEN = OpenApiResponse(ERROR, "Not logged in, or not allowed to do this")
NOT_FOUND = OpenApiResponse(ERROR, "No such object, or none that the user may view")

ANSWERS = {
    "list": {403: FORBIDDEN, 404: OpenApiResponse(ERROR, "No such page")},
    "retrieve": {
        304: OpenApiResponse(description="The client's copy is still right"),
        403: FORBIDDEN,
        404: NOT_FOUND,
        412: OpenApiResponse(description="The object is not in the version that If-Match asks for"),
    },
    "destroy": {
        403: FORBIDDEN,
        404: NOT_FOUND,
        409: OpenApiResponse(ERROR, "Other tables refer to it; the detail names what"),
    },
    "cancel": {403: FORBIDDEN, 404: NOT_FOUND},
}
"""Answers beside the successful one, by action."""


def _header(name: str, description: str, type_: type = str, codes: Any = True) -> OpenApiParameter:
    return OpenApiParameter(name, type_, OpenApiParameter.HEADER, description=description, response=codes)


CACHING = [_header("Cache-Control", "private, no-cache"), _header("Vary", "Accept-Language, Cookie, and others")]

HEADERS = {
    "list": [*CACHING, _header("Link", "Where other pages are: first, prev and next of RFC 8288", codes=[200])],
    "retrieve": [
        *CACHING,
        OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="ETag of the client's copy"),
        OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="ETag of the version asked for"),
        _header("ETag", "The version; none where the file's URL is signed, for that expires", codes=[200, 304]),
    ],
    "destroy": CACHING,
    "cancel": CACHING,
}
"""Headers of requests and answers, by action."""

RETRY_AFTER = _header("Retry-After", "Seconds to wait between questions, while it is unfinished", int, [200, 304])


class DescribedAutoSchema(AutoSchema):
    """Adds the headers and the answers beside the successful one."""

    view: Any

    def get_override_parameters(self) -> list[Any]:
        """Return the headers of the requests and of the answers."""
        polled = self.view.action == "retrieve" and hasattr(self.view, "retry_after")
        headers = [*HEADERS.get(self.view.action, []), *([RETRY_AFTER] if polled else [])]
        return [*super().get_override_parameters(), *headers]

    def get_request_serializer(self) -> Any:
        """Return None for a cancellation: it takes no body."""
        return None if self.view.action == "cancel" else super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        """Return what each status code comes with."""
        answer = super().get_response_serializers()
        if self.view.action not in ANSWERS:
            return answer
        success: dict[str, dict[int, Any]] = {
            "destroy": {204: OpenApiResponse(description="Deleted, its artifacts with it")},
            "cancel": {getattr(self.view, "cancel_status_code", 200): answer},
        }
        return {**success.get(self.view.action, {200: answer}), **ANSWERS[self.view.action]}


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
