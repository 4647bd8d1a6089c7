"""The project's tests."""

from __future__ import annotations

from types import ModuleType
from typing import assert_type

from django.contrib.auth.models import User

from shop.tasks import report
from user_tasks import testing
from user_tasks.models import UserTaskArtifact, UserTaskStatus


def check_report(user: User, user_task_testing: ModuleType, user_task_stops: list[UserTaskStatus]) -> None:
    """Run a task, and cancel it."""
    execution = testing.execute(report.s("orders", ["a", "b"], user_id=user.pk))
    testing.assert_succeeded(execution)
    assert_type(testing.assert_artifact(execution, "orders", text="2"), UserTaskArtifact)
    assert_type(execution.states, list[str])
    canceled = testing.execute_canceled(report.s("orders", ["a"], user_id=user.pk), after=1)
    testing.assert_canceled(canceled.status)
