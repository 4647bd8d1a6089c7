"""Which statuses and artifacts a request is shown, unless the settings name other filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.filters import BaseFilterBackend

from .querysets import visible

if TYPE_CHECKING:
    from django.http import HttpRequest
    from rest_framework.request import Request


class StatusFilterBackend(BaseFilterBackend):
    """Shows superusers everything, others what they triggered, anonymous users nothing."""

    def filter_queryset(self, request: Request | HttpRequest, queryset: Any, view: Any) -> Any:
        """Return the statuses that the request's user may be shown."""
        return queryset.filter(visible(request.user, "user"))


class ArtifactFilterBackend(BaseFilterBackend):
    """Shows superusers everything, others the outputs of what they triggered, anonymous users nothing."""

    def filter_queryset(self, request: Request | HttpRequest, queryset: Any, view: Any) -> Any:
        """Return the artifacts that the request's user may be shown."""
        return queryset.filter(visible(request.user, "status__user"))
