"""Answers of the views that start tasks."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.reverse import reverse

from . import recording
from .conf import settings
from .containers import ancestors
from .models import UserTaskStatus

RETRY_AFTER = 1
"""Seconds that a client is asked to wait before it looks how far the task is."""


def accepted(request: HttpRequest, result: Any) -> HttpResponse:
    """Answer that a task has been started: 202, where its status is, when to look there, and the status as JSON.

    `result` is what ``delay()`` or ``apply_async()`` returned, of a task or of a whole canvas, whose status is that of
    its outermost container. Raises `UserTaskStatus.DoesNotExist` if no status of it has been recorded.
    """
    status = _status_of(result)
    serializer = settings.USER_TASKS_STATUS_SERIALIZER(status, context={"request": request})
    return HttpResponse(
        JSONRenderer().render(serializer.data),
        status=HTTPStatus.ACCEPTED,
        content_type="application/json",
        headers={
            "Location": reverse("usertaskstatus-detail", kwargs={"uuid": status.uuid}, request=request),
            "Retry-After": str(RETRY_AFTER),
        },
    )


def _status_of(result: Any) -> UserTaskStatus:
    status = recording.status_of(result.id)
    if status is None:
        raise UserTaskStatus.DoesNotExist(f"Task {result.id} has no status. Is it a task of a UserTaskMixin class?")
    *_inner, root = status, *ancestors(status)
    return root
