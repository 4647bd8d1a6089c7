"""The status of a task, and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.conf import settings
from django.core.validators import URLValidator
from django.db import models
from django.db.models.fields.files import FieldFile
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from model_utils.models import TimeStampedModel

from . import containers, outages, states, texts, transitions
from .conf import artifact_storage
from .querysets import UserTaskArtifactQuerySet, UserTaskStatusQuerySet
from .states import State

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager

NAME_LENGTH = 255
STATE_LENGTH = 128
TASK_CLASS_LENGTH = 128

INHERITED_NAMES = (gettext_noop("created"), gettext_noop("modified"))
"""Fields of `TimeStampedModel`, which model_utils names in few languages, and only where it is among the apps."""


class UserTaskStatus(TimeStampedModel):
    """The state and progress of a task that a user triggered, or of a container of such tasks.

    Each verb stores what it does at once; the instance, and the containers cached on it as `parent`, show the new
    values afterwards.
    """

    PENDING = State.PENDING.value
    IN_PROGRESS = State.IN_PROGRESS.value
    SUCCEEDED = State.SUCCEEDED.value
    FAILED = State.FAILED.value
    CANCELED = State.CANCELED.value
    RETRYING = State.RETRYING.value
    STATE_TRANSLATIONS = states.TRANSLATIONS

    uuid = models.UUIDField(
        _("UUID"), default=uuid4, unique=True, editable=False, help_text=_("Unique ID for use in APIs")
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        help_text=_("The user who triggered the task"),
    )
    task_id = models.CharField(
        _("task ID"), max_length=128, unique=True, db_index=True, help_text=_("ID of the task in its queue")
    )
    parent = models.ForeignKey(
        "self",
        verbose_name=_("parent"),
        null=True,
        default=None,
        on_delete=models.CASCADE,
        help_text=_("The container that the task belongs to"),
    )
    is_container = models.BooleanField(
        _("is container"), default=False, help_text=_("Whether this stands for other tasks")
    )
    task_class = models.CharField(
        _("task class"), max_length=TASK_CLASS_LENGTH, help_text=_("Name of the task or kind of container")
    )
    name = models.CharField(_("name"), max_length=NAME_LENGTH, help_text=_("The name that the user reads"))
    state = models.CharField(
        _("state"), max_length=STATE_LENGTH, default=PENDING, help_text=_("What the task is doing")
    )
    completed_steps = models.BigIntegerField(_("completed steps"), default=0, help_text=_("Steps done"))
    total_steps = models.BigIntegerField(_("total steps"), help_text=_("Steps in all"))
    attempts = models.IntegerField(_("attempts"), default=1, help_text=_("How often it has been tried"))
    due = models.DateTimeField(
        _("due"), null=True, editable=False, help_text=_("When it may run at the earliest, once its message has left")
    )
    started = models.DateTimeField(
        _("started"), null=True, editable=False, help_text=_("When the current attempt began")
    )
    finished = models.DateTimeField(_("finished"), null=True, editable=False, help_text=_("When it came to rest"))
    heartbeat = models.DateTimeField(
        _("heartbeat"), null=True, editable=False, help_text=_("When its worker last showed life")
    )
    lost = models.BooleanField(
        _("lost"),
        default=False,
        db_default=False,
        editable=False,
        help_text=_("Whether it failed because nobody reported on it"),
    )

    objects = UserTaskStatusQuerySet.as_manager()

    is_repeated = False
    """Whether this stands for an execution that began when the task was at rest already."""

    is_detached = False
    """Whether this stands for a call that has no row, and never will: nothing that is done to it is stored."""

    class Meta:
        verbose_name = _("user task status")
        verbose_name_plural = _("user task statuses")
        permissions = [("cancel_usertaskstatus", "Can cancel user task status")]
        indexes = [
            # A user's list, and everybody's, the newest first.
            models.Index(fields=["user", "-created", "-id"], name="user_tasks_status_of_user"),
            models.Index(fields=["-created", "-id"], name="user_tasks_status_newest"),
            # Whether a container waits for any of its members. With the parent first, InnoDB would take this for the
            # index of the foreign key, and lock the container whenever a member finishes.
            models.Index(fields=["finished", "parent"], name="user_tasks_status_members"),
            # What has been silent, and what has been waiting, for too long.
            models.Index(fields=["finished", "heartbeat"], name="user_tasks_status_silent"),
            models.Index(fields=["state", "due"], name="user_tasks_status_overdue"),
        ]

    if TYPE_CHECKING:
        artifacts: RelatedManager[UserTaskArtifact]
        parent_id: int | None
        user_id: Any

    def __str__(self) -> str:
        return f"<UserTaskStatus: {self.name}>"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as Django does; what is given a state that is not final is not at rest either."""
        if self.is_detached:
            return
        if not states.is_final(self.state) and self.finished is not None:
            self.finished = None
            if kwargs.get("update_fields"):
                kwargs["update_fields"] = {*kwargs["update_fields"], "finished"}
        super().save(*args, **kwargs)

    @property
    def state_text(self) -> str:
        """The state in the active language; a custom state as it is."""
        return states.text_of(self.state)

    def start(self) -> None:
        """Enter In Progress, and start the containers that wait for it.

        Raises `TaskCanceledException` if the task has been canceled.
        """
        transitions.halt_if_canceled(self)
        transitions.start(self)
        transitions.halt_if_canceled(self)

    def increment_completed_steps(self, steps: int = 1) -> None:
        """Add to the steps done, here and in every container.

        Raises `TaskCanceledException`, after counting, if the task has been canceled.
        """
        transitions.add_steps(self, completed=steps)
        transitions.halt_if_canceled(self)

    def increment_total_steps(self, steps: int) -> None:
        """Add to the steps in all, here and in every container.

        Raises `TaskCanceledException`, after counting, if the task has been canceled.
        """
        transitions.add_steps(self, total=steps)
        transitions.halt_if_canceled(self)

    def cancel(self, *, terminate: bool = False) -> None:
        """Cancel the task, or a container with all its members; no effect in a final state.

        A task that runs stops at its next step. With `terminate` the queue is asked to end its process at once, where
        it can; what the process held is lost then.
        """
        self._move(transitions.cancel, terminate)

    def fail(self, message: Any) -> None:
        """Enter Failed, with the message as an artifact named "Error", on the containers too.

        The message may be a string, an exception or anything that JSON can hold.
        """
        self._move(transitions.fail, message)

    def retry(self) -> None:
        """Enter Retrying and count one more attempt."""
        self._move(transitions.retry)

    def set_name(self, name: str) -> None:
        """Name the task and its containers; a name longer than the column is shortened."""
        self._move(transitions.set_name, texts.shorten(name, NAME_LENGTH))

    def set_state(self, custom_state: object) -> None:
        """Enter a state of the project's own, such as "Compressing"; it is shown on the containers too, up to a group.

        Given a final state it moves there, without an artifact. Raises `TaskCanceledException` if the task has been
        canceled.
        """
        state = texts.shorten(states.value_of(custom_state), STATE_LENGTH)
        if states.is_final(state):
            self._move(transitions.set_state, state)
        else:
            transitions.halt_if_canceled(self)
            transitions.set_state(self, state)
            transitions.halt_if_canceled(self)

    def succeed(self) -> None:
        """Complete the missing steps and enter Succeeded; a container follows with its last member."""
        self._move(transitions.succeed)

    def _move(self, transition: Callable[..., object], *args: Any) -> None:
        def move() -> None:
            transitions.refresh(self)
            transition(self, *args)

        database = containers.database(self)
        outages.survive(move, database)
        outages.survive(partial(transitions.refresh, self), database)


class ArtifactFile(FieldFile):
    """A file in the storage that the settings name at the time."""

    def __init__(self, instance: models.Model, field: models.FileField, name: str | None) -> None:
        super().__init__(instance, field, name)
        self.storage = artifact_storage()


class ArtifactFileField(models.FileField):
    """A plain FileField to migrations, whatever the settings."""

    attr_class = ArtifactFile

    def deconstruct(self) -> Any:
        """Describe the field as Django's own."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.FileField", args, kwargs


class UserTaskArtifact(TimeStampedModel):
    """An output of a task: a text, a link or a file."""

    uuid = models.UUIDField(
        _("UUID"), default=uuid4, unique=True, editable=False, help_text=_("Unique ID for use in APIs")
    )
    status = models.ForeignKey(
        UserTaskStatus, verbose_name=_("status"), on_delete=models.CASCADE, related_name="artifacts"
    )
    name = models.CharField(
        _("name"), max_length=NAME_LENGTH, default="Output", help_text=_("The name that the user reads")
    )
    file = ArtifactFileField(
        _("file"), null=True, blank=True, storage=artifact_storage, upload_to="user_tasks/%Y/%m/%d/"
    )
    url = models.TextField(_("URL"), blank=True, validators=[URLValidator()])
    text = models.TextField(_("text"), blank=True)

    objects = UserTaskArtifactQuerySet.as_manager()

    class Meta:
        verbose_name = _("user task artifact")
        verbose_name_plural = _("user task artifacts")
        # Everybody's list, the newest first.
        indexes = [models.Index(fields=["-created", "-id"], name="user_tasks_artifact_newest")]

    @property
    def file_url(self) -> str:
        """The URL of the file just as its storage gives it; empty where there is no file or no URL."""
        try:
            return str(self.file.url)
        except (NotImplementedError, ValueError):
            return ""

    def __str__(self) -> str:
        if self.file:
            content = str(self.file.name)
        elif self.url:
            content = self.url
        else:
            content = self.text if len(self.text) <= 50 else f"{self.text[:47]}..."
        return f"<UserTaskArtifact: ({self.name}) {content}>"
