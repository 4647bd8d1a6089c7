"""What is done when tasks stop."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import receiver

from user_tasks import user_task_stopped
from user_tasks.models import UserTaskStatus

logger = logging.getLogger(__name__)


@receiver(user_task_stopped, sender=UserTaskStatus)
def tell(sender: type[UserTaskStatus], status: UserTaskStatus, **kwargs: Any) -> None:
    """Collect what the task has made."""
    texts: list[str] = [artifact.text for artifact in status.artifacts.all()]
    if status.state == UserTaskStatus.SUCCEEDED and status.parent is None:
        logger.info("%s of %s: %s", status.name, status.user.pk, texts)
