from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import serializers
from rest_framework.decorators import action

from user_tasks.conf import settings
from user_tasks.serializers import StatusSerializer
from user_tasks.tasks import UserTaskStatus
from user_tasks.views import StatusViewSet

from .models import Notice
from .tasks import ExportTask, export


class ExportStatusSerializer(StatusSerializer):
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = StatusSerializer.Meta.model
        fields = (*StatusSerializer.Meta.fields, "uuid", "username")


class ExportStatusViewSet(StatusViewSet):
    """The exports, with who triggered them."""

    queryset = StatusViewSet.queryset.filter(task_class=export.name).distinct().order_by("-created")
    serializer_class = ExportStatusSerializer

    @action(detail=True, methods=["post"])
    def cancel(self, request, *args, **kwargs):
        response = super().cancel(request, *args, **kwargs)
        Notice.objects.create(text=f"{request.user} canceled {response.data['name']}")
        return response


@csrf_exempt
@login_required
def start(request):
    """Start an export, and find it by its name."""
    arguments = {"table": request.POST["table"]}
    export.delay(request.POST["table"], request.user.pk, rows=int(request.POST["rows"]))
    status = UserTaskStatus.objects.get(name=ExportTask.generate_name(arguments))
    return JsonResponse({"uuid": status.uuid, "state": status.state})


@login_required
def names(request):
    """List what the user may see, by the filters of the API."""
    statuses = UserTaskStatus.objects.order_by("pk")
    for filter_class in settings.USER_TASKS_STATUS_FILTERS:
        statuses = filter_class().filter_queryset(request, statuses, None)
    return JsonResponse(
        {
            "statuses": [status.name for status in statuses],
            "notices": [notice.text for notice in Notice.objects.order_by("pk")],
            "days": settings.USER_TASKS_MAX_AGE.days,
        }
    )
