"""Fixtures for pytest, known to it wherever the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

    from .models import UserTaskStatus


@pytest.fixture
def user_task_testing(db: None) -> ModuleType:  # noqa: ARG001 - asked for what it makes possible
    """The module `user_tasks.testing`, with access to the database of pytest-django."""
    from . import testing

    return testing


@pytest.fixture
def user_task_stops() -> Iterator[list[UserTaskStatus]]:
    """The statuses that `user_task_stopped` is sent with during the test, in order."""
    from . import user_task_stopped

    stops: list[UserTaskStatus] = []

    def receive(status: UserTaskStatus, **_kwargs: Any) -> None:
        stops.append(status)

    user_task_stopped.connect(receive)
    yield stops
    user_task_stopped.disconnect(receive)


@pytest.fixture
def user_task_rules() -> Iterator[None]:
    """The rules of the package in force during the test, and afterwards those that were before."""
    from rules.permissions import permissions

    from .rules import add_rules

    before = dict(permissions)
    add_rules()
    yield
    permissions.clear()
    permissions.update(before)
