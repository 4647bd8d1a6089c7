"""Filtering and searching of the API's list of statuses, where the project has django-filter among its apps."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import Q

from . import states
from .models import UserTaskStatus

if TYPE_CHECKING:
    from .querysets import UserTaskStatusQuerySet


def backends() -> tuple[Any, ...]:
    """Return the filter backends that answer to query parameters; none without django-filter."""
    return _backends() if apps.is_installed("django_filters") else ()


@cache
def _backends() -> tuple[Any, ...]:
    import django_filters
    from django_filters.rest_framework import DjangoFilterBackend, FilterSet
    from rest_framework.filters import SearchFilter

    class StatusFilterSet(FilterSet):  # type: ignore[misc]  # django-filter has no types
        """Narrows the list by what a status says."""

        state = django_filters.CharFilter(method="in_state", label="In Progress stands for custom states too")
        done = django_filters.BooleanFilter(method="is_done")
        name = django_filters.CharFilter()
        parent = django_filters.UUIDFilter(field_name="parent__uuid")
        root = django_filters.BooleanFilter(field_name="parent", lookup_expr="isnull")
        created = django_filters.IsoDateTimeFromToRangeFilter()
        modified = django_filters.IsoDateTimeFromToRangeFilter()

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

    return StatusFilters, NameSearch
