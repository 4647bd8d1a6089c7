"""The project's own API and pages."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.response import Response

from shop.tasks import Export, report
from user_tasks.conf import get_storage, settings
from user_tasks.exceptions import TaskCanceledException
from user_tasks.filters import StatusFilterBackend
from user_tasks.models import UserTaskStatus
from user_tasks.responses import accepted
from user_tasks.rules import add_rules
from user_tasks.serializers import StatusSerializer
from user_tasks.views import StatusViewSet


class ReportStatusSerializer(StatusSerializer):
    """Tells the uuid too."""

    class Meta(StatusSerializer.Meta):
        """More fields."""

        fields = (*StatusSerializer.Meta.fields, "uuid")


class ReportStatusViewSet(StatusViewSet):
    """Shows reports only."""

    serializer_class = ReportStatusSerializer
    cancel_status_code = 200

    def get_queryset(self) -> QuerySet[UserTaskStatus]:
        """Return the statuses of reports."""
        return super().get_queryset().filter(task_class=report.name)

    def cancel(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Cancel a report."""
        return super().cancel(request, *args, **kwargs)


def start(request: HttpRequest) -> HttpResponse:
    """Start an export."""
    user_id = request.user.pk
    assert user_id is not None
    result = Export().delay("orders", user_id)
    return accepted(request, result)


def statuses(request: HttpRequest) -> JsonResponse:
    """List the statuses that the user may see."""
    shown = StatusFilterBackend().filter_queryset(request, UserTaskStatus.objects.all(), None)
    return JsonResponse({"names": [status.name for status in shown], "days": settings.USER_TASKS_MAX_AGE.days})


def cancel(status: UserTaskStatus) -> str:
    """Cancel a task, whatever it is."""
    try:
        status.start()
    except TaskCanceledException as error:
        return str(error)
    status.cancel(terminate=True)
    add_rules()
    return str(type(get_storage()))
