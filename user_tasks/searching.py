"""Filtering and searching of the API's list of statuses, where the project has django-filter among its apps."""

from __future__ import annotations

from datetime import MINYEAR, UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import Q

from . import states
from .models import NAME_LENGTH, UserTaskStatus

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet


FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def backends() -> tuple[Any, ...]:
    """Return the filter backends that answer to query parameters; none without django-filter."""
    return _backends() if apps.is_installed("django_filters") else ()


@cache
def _backends() -> tuple[Any, ...]:
    import django_filters
    from django_filters.rest_framework import DjangoFilterBackend, FilterSet
    from rest_framework.filters import SearchFilter

    class Moments(django_filters.IsoDateTimeFromToRangeFilter):  # type: ignore[misc]  # django-filter has no types
        """Takes bounds that lie beyond the calendar in another time zone for its first or last moment."""

        def filter(self, queryset: Any, value: Any) -> Any:
            if value:
                value = slice(_in_utc(value.start), _in_utc(value.stop))
            return super().filter(queryset, value)

    class StatusFilterSet(FilterSet):  # type: ignore[misc]  # django-filter has no types
        """Narrows the list by what a status says."""

        state = django_filters.CharFilter(method="in_state", label="In Progress stands for custom states too")
        done = django_filters.BooleanFilter(method="is_done")
        name = django_filters.CharFilter()
        parent = django_filters.UUIDFilter(field_name="parent__uuid")
        root = django_filters.BooleanFilter(field_name="parent", lookup_expr="isnull")
        created = Moments()
        modified = Moments()

        class Meta:
            model = UserTaskStatus
            fields = ("task_class",)

        def in_state(self, statuses: UserTaskStatusQuerySet, _name: str, value: str) -> UserTaskStatusQuerySet:
            return statuses.in_state(value)

        def is_done(self, statuses: UserTaskStatusQuerySet, _name: str, value: bool) -> UserTaskStatusQuerySet:
            final = Q(state__in=states.FINAL)
            return statuses.filter(final if value else ~final)

    class StatusFilters(DjangoFilterBackend):  # type: ignore[misc]  # django-filter has no types
        """Answers to the parameters of `StatusFilterSet`, unless the view brings its own."""

        def get_filterset_class(self, view: Any, queryset: Any = None) -> Any:
            return super().get_filterset_class(view, queryset) or StatusFilterSet

    class NameSearch(SearchFilter):
        """Answers to ``search``: all its words are in the name, unless the view says otherwise."""

        def get_search_fields(self, view: Any, request: Any) -> Any:
            return super().get_search_fields(view, request) or ["name"]

        def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
            asked = request.query_params.get(self.search_param, "")
            is_in_no_name = len(asked) > NAME_LENGTH and not getattr(view, "search_fields", None)
            return queryset.none() if is_in_no_name else super().filter_queryset(request, queryset, view)

    return StatusFilters, NameSearch


def _in_utc(moment: datetime | None) -> datetime | None:
    try:
        return moment and moment.astimezone(UTC)
    except OverflowError:
        return LAST if moment and moment.year > MINYEAR else FIRST
