from __future__ import annotations

from user_tasks.filters import StatusFilterBackend


class NamedStatusFilter(StatusFilterBackend):
    """Shows what a user triggered, unless it has no name."""

    def filter_queryset(self, request, queryset, view):
        return super().filter_queryset(request, queryset, view).exclude(name="")
