"""Pages of lists that are too long to count."""

from __future__ import annotations

from typing import Any

from django.core.paginator import EmptyPage, Page, Paginator

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
