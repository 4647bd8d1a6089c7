"""The shape of lists where the project sets none: bare arrays, with their neighbours in the Link header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import EmptyPage, Page, Paginator
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param

if TYPE_CHECKING:
    from rest_framework.request import Request

LARGEST_OFFSET = 2**63 - 1
"""What databases take as an OFFSET, in rows."""


class UncountedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs only
    """Reads one row more than a page holds to learn whether another page follows, and counts nothing."""

    def __init__(self, object_list: Any, per_page: int | str, **options: Any) -> None:
        super().__init__(object_list, per_page, **options)
        self.num_pages = LARGEST_OFFSET // self.per_page

    def page(self, number: Any) -> Page[Any]:
        """Return the page; from then on `num_pages` is as much as is known.

        Raises `InvalidPage` where the number is malformed, below 1 or past the end.
        """
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        rows: list[Any] = list(self.object_list[first : first + self.per_page + 1])
        if not rows and number > 1:
            raise EmptyPage(self.error_messages["no_results"])
        self.num_pages = number + (len(rows) > self.per_page)
        return Page(rows[: self.per_page], number, self)


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
