"""What must hold of every row once nothing runs any more."""

from __future__ import annotations

from django.db.models import Sum

from user_tasks.models import UserTaskStatus
from user_tasks.states import FINAL, State, fold


def lies(status: UserTaskStatus) -> list[str]:
    """Return what does not hold of a row that has come to rest."""
    found = []
    members = UserTaskStatus.objects.filter(parent=status)
    if status.state not in FINAL or status.finished is None:
        found.append("not at rest")
    if status.state == State.SUCCEEDED and status.completed_steps != status.total_steps:
        found.append("steps missing")
    if status.state == State.FAILED and not status.artifacts.filter(name="Error").exists():
        found.append("not explained")
    if status.is_container:
        sums = members.aggregate(completed=Sum("completed_steps"), total=Sum("total_steps"))
        if (sums["completed"], sums["total"]) != (status.completed_steps, status.total_steps):
            found.append("wrong sums")
        if status.state not in {fold(members.values_list("state", flat=True)), State.CANCELED}:
            found.append("wrong state")
    return [f"{status.task_class} {status.pk} {status.state}: {lie}" for lie in found]
