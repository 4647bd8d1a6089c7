"""What lists and searches cost in a table of a million statuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils.timezone import now

from user_tasks.models import UserTaskArtifact, UserTaskStatus
from user_tasks.paginators import UncountedPaginator
from user_tasks.views import ArtifactViewSet

from . import rows
from .figures import Figure, Scale, alternate

PAGE = 2.0
"""Milliseconds in the database for the newest hundred tasks of a user."""

ADMIN = 100.0
"""Milliseconds for a list in the admin, the page and all."""


def figures(scale: Scale) -> Iterator[Figure]:
    """Fill the table, and measure what reads it."""
    busiest = rows.fill(scale.rows)
    ordinary = User.objects.get(username="user7")
    statuses = UserTaskStatus.objects.newest_first()
    artifacts: Any = ArtifactViewSet.queryset
    hour_ago = now() - timedelta(hours=1)
    queries: dict[str, tuple[Any, float | None]] = {
        "newest 100 tasks of one user in a thousand": (statuses.filter(user=ordinary)[:101], PAGE),
        "newest 100 tasks of the user who has a tenth": (statuses.filter(user=busiest)[:101], PAGE),
        "newest 100 tasks of all": (statuses[:101], PAGE),
        "running tasks of the user who has a tenth": (statuses.unfinished().filter(user=busiest)[:26], None),
        "tasks that have been silent for an hour": (statuses.silent_since(hour_ago), None),
        "newest 100 artifacts of one user in a thousand": (artifacts.filter(status__user=ordinary)[:101], None),
        "newest 100 artifacts of the user who has a tenth": (artifacts.filter(status__user=busiest)[:101], None),
        "newest 100 artifacts of all": (artifacts[:101], None),
    }
    for name, (query, budget) in queries.items():
        yield Figure(f"{name}, in the database", _milliseconds(query), "ms", budget)
    deep = scale.rows // 10 // 100 * 9 // 10
    page = UncountedPaginator(statuses.filter(user=busiest), 100)
    taken = alternate({"page": lambda: list(page.page(deep).object_list)}, min(scale.repetitions, 20))
    yield Figure(f"page {deep} of the user who has a tenth", taken["page"] * 1000, "ms")
    yield from _admin(scale)
    UserTaskArtifact.objects.all()._raw_delete("default")
    UserTaskStatus.objects.all()._raw_delete("default")


def _milliseconds(query: Any) -> float:
    """Return how long PostgreSQL says that it takes for a query: the best of five, the tables being in memory."""
    plans = [query.explain(analyze=True) for _ in range(5)]
    return min(float(re.findall(r"Execution Time: ([\d.]+) ms", plan)[0]) for plan in plans)


def _admin(scale: Scale) -> Iterator[Figure]:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    lists = {
        "admin: all tasks": "",
        "admin: failed tasks": "?state=Failed",
        "admin: tasks in custom states": "?state=custom",
        "admin: tasks of a class": "?task_class=shop.export_7",
        "admin: tasks since a date": "?created__gte=2026-01-01+00:00:00%2B00:00",
        "admin: tasks of a user": "?q=user7",
    }
    taken = alternate({name: _get(client, query) for name, query in lists.items()}, min(scale.repetitions, 20))
    for name in lists:
        yield Figure(name, taken[name] * 1000, "ms", ADMIN)


def _get(client: Client, query: str) -> Callable[[], None]:
    def get() -> None:
        response = client.get(f"/admin/user_tasks/usertaskstatus/{query}")
        if response.status_code != 200:
            raise AssertionError(f"The admin answers {query} with {response.status_code}.")

    return get
