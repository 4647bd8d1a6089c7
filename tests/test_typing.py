from __future__ import annotations

import pytest
from celery import current_app
from django.contrib.auth.models import User

from user_tasks import testing
from user_tasks.tasks import UserTask

pytestmark = pytest.mark.embedded


class Export(UserTask[[str, int], int]):
    """A task that tells type checkers what it takes and returns."""

    name = "test_typing.Export"

    def run(self, table: str, user_id: int) -> int:
        return sum(1 for _letter in self.track(table))


current_app.register_task(Export())


def test_the_base_of_a_task_takes_parameters_at_run_time_too(owner: User) -> None:
    execution = testing.execute(Export().s("orders", owner.pk))

    assert execution.returned == 6
    testing.assert_progress(execution, 6, 6)
