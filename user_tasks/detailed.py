"""A serializer that tells frontends all that the pages tell people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from . import downloads, estimates, lifetimes, states
from .models import UserTaskArtifact, UserTaskStatus
from .serializers import ArtifactSerializer, StatusSerializer

CHILDREN_SHOWN = 100
"""Members of a container that it names; a workflow may have 100,000."""


def _links(view_name: str, source: str = "*") -> Any:
    return serializers.HyperlinkedIdentityField(view_name=view_name, lookup_field="uuid", source=source)


class DetailedListSerializer(serializers.ListSerializer[Any]):
    """Reads what the links of all statuses of a list take, at once."""

    def to_representation(self, data: Any) -> Any:
        """Return the statuses as primitives."""
        statuses = list(data.all() if hasattr(data, "all") else data)
        _read_relatives(statuses)
        return super().to_representation(statuses)


class DetailedStatusSerializer(StatusSerializer):
    """What `StatusSerializer` tells; who is above and below; how far it is, in fractions and in time."""

    url: Any = _links("usertaskstatus-detail")
    cancel_url: Any = _links("usertaskstatus-cancel")
    page_url = serializers.SerializerMethodField(
        help_text=_("The page of the task; null where the project has no such pages")
    )
    parent: Any = serializers.HyperlinkedRelatedField(
        read_only=True, allow_null=True, view_name="usertaskstatus-detail", lookup_field="uuid"
    )
    children = serializers.SerializerMethodField(help_text=_("The first 100 members of a container"))
    done = serializers.SerializerMethodField(help_text=_("Whether nothing follows the state"))
    progress = serializers.SerializerMethodField(help_text=_("How much is done, from 0 to 1"))
    estimated_time_left = serializers.SerializerMethodField(help_text=_("In seconds; null where it cannot be told"))

    class Meta(StatusSerializer.Meta):
        list_serializer_class = DetailedListSerializer
        fields = (
            "uuid",
            *StatusSerializer.Meta.fields,
            "url",
            "cancel_url",
            "page_url",
            "parent",
            "children",
            "done",
            "progress",
            "started",
            "finished",
            "estimated_time_left",
            "task_class",
        )

    def to_representation(self, instance: UserTaskStatus) -> Any:
        """Return the status as primitives."""
        if not hasattr(instance, "first_members"):
            _read_relatives([instance])
        return super().to_representation(instance)

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_page_url(self, status: UserTaskStatus) -> str | None:
        """Return where the page of the status is."""
        try:
            return reverse("user_tasks:status", kwargs={"uuid": status.uuid}, request=self.context.get("request"))
        except NoReverseMatch:
            return None

    @extend_schema_field({"type": "array", "items": {"type": "string", "format": "uri"}})
    def get_children(self, status: UserTaskStatus) -> list[str]:
        """Return the URLs of the members, in their order."""
        request = self.context.get("request")
        members: list[UserTaskStatus] = vars(status)["first_members"]
        return [reverse("usertaskstatus-detail", kwargs={"uuid": member.uuid}, request=request) for member in members]

    def get_done(self, status: UserTaskStatus) -> bool:
        """Return whether the state is final."""
        return states.is_final(status.state)

    def get_progress(self, status: UserTaskStatus) -> float:
        """Return the fraction that is done."""
        return estimates.progress(status.state, status.completed_steps, status.total_steps)

    def get_estimated_time_left(self, status: UserTaskStatus) -> float | None:
        """Return the seconds that the rest will probably take."""
        if states.is_final(status.state) or status.state in states.WAITING:
            return None
        steps = (status.completed_steps, status.total_steps)
        left = estimates.time_left(status.started, timezone.now(), *steps)
        return None if left is None else round(left.total_seconds(), 1)


class DetailedArtifactSerializer(ArtifactSerializer):
    """What `ArtifactSerializer` tells; what the file is, how long it is kept, and where to download it."""

    reads_containers = True
    """That the time of a file is that of its tree, whose rows a list reads at once."""

    download_url = serializers.SerializerMethodField(
        help_text=_("Where the file, or else the text, is sent from; null where there is none any more")
    )
    file_name = serializers.SerializerMethodField(help_text=_("The name that a download gets"))
    size = serializers.IntegerField(
        read_only=True, allow_null=True, help_text=_("Of the file, in bytes; null where that was not noted")
    )
    content_type = serializers.SerializerMethodField(help_text=_("Of the file, or else the text"))
    expires = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text=_("Until when the file is kept, at least; null where there is none")
    )

    class Meta(ArtifactSerializer.Meta):
        fields = (
            "uuid",
            *ArtifactSerializer.Meta.fields,
            "download_url",
            "file_name",
            "size",
            "content_type",
            "expires",
            "expired",
        )

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_download_url(self, artifact: UserTaskArtifact) -> str | None:
        """Return where the download is."""
        if lifetimes.is_over(artifact) or not (artifact.file or artifact.text):
            return None
        request = self.context.get("request")
        return reverse("usertaskartifact-download", kwargs={"uuid": artifact.uuid}, request=request)

    def get_file_name(self, artifact: UserTaskArtifact) -> str:
        """Return the name of the download."""
        return downloads.file_name(artifact) if artifact.file or artifact.file_name or artifact.text else ""

    def get_content_type(self, artifact: UserTaskArtifact) -> str:
        """Return what is known of the content."""
        return downloads.known_type(artifact)


def _read_relatives(statuses: Sequence[UserTaskStatus]) -> None:
    """Read the containers and the first members of statuses, for their links."""
    members = UserTaskStatus.objects.only("uuid", "parent").order_by("pk")[:CHILDREN_SHOWN]
    prefetch_related_objects(statuses, "parent", Prefetch("usertaskstatus_set", members, to_attr="first_members"))
