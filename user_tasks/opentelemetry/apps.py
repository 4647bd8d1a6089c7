"""The application that counts and times tasks for OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _
from opentelemetry import metrics

from user_tasks import __version__, logs, user_task_stopped

if TYPE_CHECKING:
    from user_tasks.models import UserTaskStatus

# These go to the provider that the project sets, before or after this.
meter = metrics.get_meter("user_tasks", __version__)
STOPPED = meter.create_counter("user_tasks.stopped", unit="{task}", description="Tasks that have stopped.")
RUN = meter.create_histogram("user_tasks.run.duration", unit="s", description="How long the last attempt took.")
WAIT = meter.create_histogram("user_tasks.wait.duration", unit="s", description="How long a task waited since due.")


class OpenTelemetryConfig(AppConfig):
    """Counts each task that stops, in the process where that is stored."""

    name = "user_tasks.opentelemetry"
    label = "user_tasks_opentelemetry"
    verbose_name = _("User Tasks")

    def ready(self) -> None:
        """Listen to the end of tasks."""
        user_task_stopped.connect(measure, dispatch_uid=self.name)


def measure(status: UserTaskStatus, **_kwargs: Any) -> None:
    """Count a status that has stopped, and how long it waited and ran."""
    attributes = {"task_class": status.task_class, "state": status.state}
    STOPPED.add(1, attributes)
    for histogram, duration in ((RUN, logs.ran(status)), (WAIT, logs.waited(status))):
        if duration is not None:
            histogram.record(duration.total_seconds(), attributes)
