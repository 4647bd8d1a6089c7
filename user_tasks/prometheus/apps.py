"""The application that counts and times tasks for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _
from prometheus_client import Counter, Histogram

from user_tasks import logs, user_task_stopped

if TYPE_CHECKING:
    from user_tasks.models import UserTaskStatus

BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
"""Upper bounds in seconds."""

LABELS = ("task_class", "state")

STOPPED = Counter("user_tasks_stopped", "Tasks that have stopped, and containers of tasks.", LABELS)
RUN = Histogram("user_tasks_run_seconds", "How long the last attempt of a task took.", LABELS, buckets=BUCKETS)
WAIT = Histogram(
    "user_tasks_wait_seconds", "How long a task waited for a worker since it was due.", LABELS, buckets=BUCKETS
)


class PrometheusConfig(AppConfig):
    """Counts each task that stops, in the process where that is stored."""

    name = "user_tasks.prometheus"
    label = "user_tasks_prometheus"
    verbose_name = _("User Tasks")

    def ready(self) -> None:
        """Listen to the end of tasks."""
        user_task_stopped.connect(measure, dispatch_uid=self.name)


def measure(status: UserTaskStatus, **_kwargs: Any) -> None:
    """Count a status that has stopped, and how long it waited and ran."""
    labels = (status.task_class, status.state)
    STOPPED.labels(*labels).inc()
    for histogram, duration in ((RUN, logs.ran(status)), (WAIT, logs.waited(status))):
        if duration is not None:
            histogram.labels(*labels).observe(duration.total_seconds())
