"""What the command line tells about tasks, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db.models import Count, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from .models import UserTaskArtifact, UserTaskStatus
from .querysets import UserTaskStatusQuerySet

SHOWN = (
    "uuid",
    "task_id",
    "task_class",
    "name",
    "state",
    "completed_steps",
    "total_steps",
    "attempts",
    "created",
    "due",
    "started",
    "finished",
    "heartbeat",
    "lost",
)

TEXT_SHOWN = 10_000
"""Characters of a text."""

ARTIFACTS_SHOWN = 100
"""Artifacts of each status."""

READ_AT_ONCE = 1000
"""Statuses of which one query reads the artifacts, or the members; databases limit its parameters."""


def find(identifier: str) -> UserTaskStatus | None:
    """Return the status with this uuid, or Celery's id, as it is where it is written, for what is decided by it."""
    wanted = Q(task_id=identifier)
    with suppress(ValueError):
        wanted |= Q(uuid=UUID(identifier))
    return UserTaskStatus.objects.at_home().select_related("user").filter(wanted).first()


def user_named(text: str) -> Any:
    """Return the user with this name, or else this primary key; None if there is no such user."""
    users = get_user_model()._default_manager
    for look_up in (users.model.USERNAME_FIELD, "pk"):
        try:
            return users.get(**{look_up: text})
        except (ObjectDoesNotExist, ValidationError, ValueError):
            continue
    return None


def row(status: UserTaskStatus) -> dict[str, Any]:
    """Return a status by the names of its fields."""
    values: dict[str, Any] = {field: getattr(status, field) for field in SHOWN}
    return {**values, "user": status.user.get_username()}


def tree(status: UserTaskStatus, limit: int) -> dict[str, Any]:
    """Return a status with its first artifacts and, below it, the first `limit` members of each container.

    Texts are cut after `TEXT_SHOWN` characters. A level is read by two queries for each thousand of its statuses.
    """
    outputs = UserTaskArtifact.objects.with_text_start(TEXT_SHOWN)
    statuses = UserTaskStatus.objects.select_related("user")
    level = [status]
    artifacts: dict[int, list[Any]] = {}
    members: dict[int, list[Any]] = {}
    while level:
        artifacts |= _first_of_each(level, outputs, "status", ARTIFACTS_SHOWN, ["pk"])
        containers = [each for each in level if each.is_container]
        found = _first_of_each(containers, statuses, "parent", limit, ["created", "pk"])
        members |= found
        level = list(chain.from_iterable(found.values()))
    return _node(status, artifacts, members)


def _first_of_each(
    holders: list[UserTaskStatus], rows: QuerySet[Any], field: str, limit: int, order: list[str]
) -> dict[int, list[Any]]:
    """Return, by the key of the status that they refer to, its first rows; each knows how many there are `in_all`."""
    first = rows.annotate(
        place=Window(RowNumber(), partition_by=field, order_by=order),
        in_all=Window(Count("pk"), partition_by=field),
    )
    found: dict[int, list[Any]] = {}
    for start in range(0, len(holders), READ_AT_ONCE):
        keys = [holder.pk for holder in holders[start : start + READ_AT_ONCE]]
        for row_ in first.filter(place__lte=limit, **{f"{field}__in": keys}).order_by(*order):
            found.setdefault(getattr(row_, f"{field}_id"), []).append(row_)
    return found


def _node(status: UserTaskStatus, artifacts: dict[int, list[Any]], members: dict[int, list[Any]]) -> dict[str, Any]:
    outputs = artifacts.get(status.pk, [])
    values = {
        **row(status),
        "artifacts": [_output(artifact) for artifact in outputs],
        "artifacts_left_out": _left_out(outputs),
    }
    if status.is_container:
        shown = members.get(status.pk, [])
        values["members"] = [_node(member, artifacts, members) for member in shown]
        values["members_left_out"] = _left_out(shown)
    return values


def _output(artifact: Any) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "text": artifact.text_start,
        "text_length": artifact.text_length,
        "url": artifact.url,
        "file": artifact.file.name or "",
    }


def _left_out(shown: list[Any]) -> int:
    return shown[0].in_all - len(shown) if shown else 0


def statistics(age: timedelta) -> dict[str, Any]:
    """Return what became of the tasks created no longer ago than `age`, and how long the first of all waits."""
    now = timezone.now()
    recent = UserTaskStatus.objects.leaves().filter(created__gte=now - age)
    first = UserTaskStatus.objects.leaves().overdue_since(now).order_by("due").values_list("due", flat=True).first()
    return {
        "seconds": age.total_seconds(),
        "longest_waiting_seconds": None if first is None else (now - first).total_seconds(),
        "tasks": list(_summarized(recent)),
    }


def _summarized(statuses: UserTaskStatusQuerySet) -> Iterator[dict[str, Any]]:
    for line in statuses.summary():
        yield {
            name if name in ("task_class", "state", "count") else f"{name}_seconds": _in_seconds(value)
            for name, value in line.items()
        }


def _in_seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
