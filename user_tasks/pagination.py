"""The shape of lists where the project sets none: bare arrays, with their neighbours in the Link header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param

from .paginators import UncountedPaginator

if TYPE_CHECKING:
    from rest_framework.request import Request


class LinkPagination(PageNumberPagination):
    """Pages of at most 100 in a bare array, linked by RFC 8288's header: first, prev and next."""

    page_size = 100
    django_paginator_class = UncountedPaginator
    last_page_strings = ()
    request: Request

    def get_paginated_response(self, data: Any) -> Response:
        """Return the array, and where its neighbours are."""
        links = {
            "first": remove_query_param(self.request.build_absolute_uri(), self.page_query_param),
            "prev": self.get_previous_link(),
            "next": self.get_next_link(),
        }
        return Response(
            data, headers={"Link": ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items() if url)}
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe the array, which nothing wraps."""
        return schema
