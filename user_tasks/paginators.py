"""Pages of lists that are too long to count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import EmptyPage, Page, Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    from django.db.models import QuerySet

LARGEST_OFFSET = 2**63 - 1
"""What databases take as an OFFSET, in rows."""

DEEP = 1_000
"""Rows before a page from which on it is read in two steps."""


class InTurn:
    """The rows of one query, then those of another, to be read in slices: each query by an index of its own.

    What moves from the first to the second while a slice is read stands there once.
    """

    def __init__(self, first: QuerySet[Any], second: QuerySet[Any]) -> None:
        self._first = first
        self._second = second

    def __getitem__(self, places: slice) -> list[Any]:
        rows = list(self._first[places])
        if rows or not places.start:
            others = self._second.exclude(pk__in=[row.pk for row in rows]) if rows else self._second
            return rows + list(others[: places.stop - (places.start or 0) - len(rows)])
        before = self._first.count()
        # Another one may have begun in between, and been counted.
        return list(self._second[max(places.start - before, 0) : max(places.stop - before, 0)])


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs only
    """Counts no further than some twenty pages, of which there may be thousands."""

    most = 1_000
    """Rows that are counted, and can be reached."""

    object_list: Any

    @cached_property
    def count(self) -> int:
        """The rows, up to the most."""
        return min(self._found, self.most)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than these."""
        return self._found > self.most

    @cached_property
    def _found(self) -> int:
        return int(self.object_list[: self.most + 1].count())


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
        rows, there = _rows(self.object_list, first, first + self.per_page + 1)
        if not there and number > 1:
            raise EmptyPage(self.error_messages["no_results"])
        self.num_pages = number + (there > self.per_page)
        return Page(rows[: self.per_page], number, self)


def _rows(found: Any, first: int, end: int) -> tuple[list[Any], int]:
    """Return a slice, and how many rows there were for it when they were looked for.

    Of a slice far from the beginning the keys are read first, for which an index is enough; a row may go before it is
    read itself. The last, which only tells that another page follows, is not.
    """
    if first < DEEP or not hasattr(found, "values_list"):
        rows = list(found[first:end])
        return rows, len(rows)
    keys = list(found.values_list("pk", flat=True)[first:end])
    known = {row.pk: row for row in found.filter(pk__in=keys[: end - first - 1])}
    return [known[key] for key in keys[: end - first - 1] if key in known], len(keys)
