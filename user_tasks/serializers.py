"""What the API tells about statuses and artifacts."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .models import UserTaskArtifact, UserTaskStatus


class ArtifactLinks(serializers.ManyRelatedField):
    """Links to artifacts: to those that `prefetch_artifact_links` has read, in lists rather than in query sets."""

    LIST = "linked_artifacts"
    """The attribute of a status that has the list."""

    def get_attribute(self, instance: UserTaskStatus) -> Any:
        """Return the artifacts of a status."""
        linked = getattr(instance, self.LIST, None)
        return super().get_attribute(instance) if linked is None else linked


class StatusSerializer(serializers.ModelSerializer[UserTaskStatus]):
    """How far a task is, and where its outputs are."""

    state_text = serializers.CharField(read_only=True, help_text=_("The state in the language of the request"))
    artifacts: Any = ArtifactLinks(
        child_relation=serializers.HyperlinkedRelatedField(
            read_only=True, view_name="usertaskartifact-detail", lookup_field="uuid"
        ),
        read_only=True,
    )

    class Meta:
        model = UserTaskStatus
        fields: tuple[str, ...] = (
            "name",
            "state",
            "state_text",
            "completed_steps",
            "total_steps",
            "attempts",
            "created",
            "modified",
            "artifacts",
        )
        extra_kwargs = {steps: {"coerce_to_string": False} for steps in ("completed_steps", "total_steps")}


class ArtifactSerializer(serializers.ModelSerializer[UserTaskArtifact]):
    """An output of a task: a text, a link or a file."""

    status: Any = serializers.HyperlinkedRelatedField(
        read_only=True, view_name="usertaskstatus-detail", lookup_field="uuid"
    )
    file = serializers.SerializerMethodField(help_text=_("Where the file is, or empty"))

    class Meta:
        model = UserTaskArtifact
        fields: tuple[str, ...] = ("name", "created", "modified", "status", "file", "text", "url")

    @extend_schema_field({"type": "string", "format": "uri-reference"})
    def get_file(self, artifact: UserTaskArtifact) -> str:
        """Return the file's URL."""
        return artifact.file_url


def prefetch_artifact_links(serializer: Any) -> None:
    """Read what the URLs of artifacts take, for all statuses of a serializer at once, without the contents.

    Nothing is read where there is no instance, or where a project's serializer shows the artifacts otherwise.
    """
    field = getattr(getattr(serializer, "child", serializer), "fields", {}).get("artifacts")
    linked = isinstance(getattr(field, "child_relation", None), serializers.HyperlinkedRelatedField)
    if serializer.instance is not None and linked:
        statuses = list(serializer.instance) if hasattr(serializer, "child") else [serializer.instance]
        links = UserTaskArtifact.objects.only("uuid", "status").order_by("pk")
        to_attr = field.LIST if isinstance(field, ArtifactLinks) else None
        prefetch_related_objects(statuses, Prefetch("artifacts", links, to_attr=to_attr))
