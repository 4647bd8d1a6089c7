"""The status of a task, and its outputs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from io import TextIOBase
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.utils import validate_file_name
from django.core.validators import URLValidator
from django.db import models, router, transaction
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from model_utils.models import TimeStampedModel

from . import (
    containers,
    content_types,
    file_names,
    lifetimes,
    links,
    outages,
    outputs,
    states,
    stored_files,
    texts,
    tracking,
    transitions,
)
from .conf import artifact_storage
from .querysets import UserTaskArtifactQuerySet, UserTaskStatusQuerySet
from .states import STATE_LENGTH, State

if TYPE_CHECKING:
    from django_stubs_ext.db.models.manager import RelatedManager

NAME_LENGTH = 255
TASK_CLASS_LENGTH = 128

FILE_FIELDS = ("file", "file_name", "size", "content_type", "stored", "expired")
"""What is stored together."""

INHERITED_NAMES = (gettext_noop("created"), gettext_noop("modified"))
"""Fields of `TimeStampedModel`, which model_utils names in few languages, and only where it is among the apps."""


Item = TypeVar("Item")
Verb = TypeVar("Verb", bound=Callable[..., object])


def _alters_data(verb: Verb) -> Verb:
    """Mark a method that Django's templates must not call."""
    verb.alters_data = True  # type: ignore[attr-defined]  # functions take attributes; Django reads this one
    return verb


def _not_negative(steps: int | None) -> int | None:
    if steps is not None and steps < 0:
        raise ValueError(f"There cannot be {steps} steps.")
    return steps


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
        db_index=False,  # two of the indexes below begin with it
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
        help_text=_("Whether it was given up because nobody reported on it"),
    )

    objects = UserTaskStatusQuerySet.as_manager()

    is_repeated = False
    """Whether this stands for an execution that began when the task was at rest already."""

    is_detached = False
    """Whether this stands for a call that has no row, and never will: nothing that is done to it is stored."""

    progress_tracker: tracking.Tracker | None = None
    """What loops and stages have done that is not stored yet."""

    class Meta:
        verbose_name = _("user task status")
        verbose_name_plural = _("user task statuses")
        permissions = [("cancel_usertaskstatus", "Can cancel user task status")]
        indexes = [
            # A user's list, and everybody's, the newest first; the rows that go with a user.
            models.Index(fields=["user", "-created", "-id"], name="user_tasks_status_of_user"),
            models.Index(fields=["-created", "-id"], name="user_tasks_status_newest"),
            # What of a user's runs, and what has just finished: the tray, and the top of the list of tasks.
            models.Index(fields=["user", "finished"], name="user_tasks_status_running"),
            # The admin's list of one class.
            models.Index(fields=["task_class", "-id"], name="user_tasks_status_class"),
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

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete as Django does; the files of the artifacts go after the commit."""
        using = using or router.db_for_write(type(self), instance=self)
        if stored_files.go_unheard(using):
            return super().delete(using=using, keep_parents=keep_parents)
        with transaction.atomic(using=using, savepoint=False):
            statuses = UserTaskStatusQuerySet(UserTaskStatus, using=using)
            stored_files.release(statuses.artifacts_below([self.pk]))
            return super().delete(using=using, keep_parents=keep_parents)

    @property
    def state_text(self) -> str:
        """The state in the active language; a custom state as it is."""
        return states.text_of(self.state)

    @_alters_data
    def start(self) -> None:
        """Enter In Progress, and start the containers that wait for it.

        Raises `TaskCanceledException` if the task has been canceled.
        """
        transitions.halt_if_canceled(self)
        transitions.start(self)
        transitions.halt_if_canceled(self)

    @_alters_data
    def increment_completed_steps(self, steps: int = 1) -> None:
        """Add to the steps done, here and in every container.

        Raises `TaskCanceledException`, after counting, if the task has been canceled.
        """
        tracking.counted_by_hand(self, completed=steps)
        transitions.step(self, completed=steps)

    @_alters_data
    def increment_total_steps(self, steps: int) -> None:
        """Add to the steps in all, here and in every container.

        Raises `TaskCanceledException`, after counting, if the task has been canceled.
        """
        tracking.counted_by_hand(self, total=steps)
        transitions.step(self, total=steps)

    def track(
        self, rows: Iterable[Item], total: int | None = None, label: tracking.Label[Item] | None = None
    ) -> Generator[Item, None, None]:
        """Yield the items of `rows`, and count each as a step when the next one is asked for.

        Written are the steps every ``USER_TASKS_TRACK_SECONDS`` seconds, and at the end of the loop. Where the number
        of items is known, by `total` or by ``len(rows)``, and the status has not that many steps left, the missing
        ones are added to its steps in all. The label, a text or a function of the item, is shown as the state.

        Raises `TaskCanceledException`, as it writes, if the task has been canceled; `ValueError` for a negative
        `total`.
        """
        return tracking.follow(self, rows, _not_negative(total), label)

    def atrack(
        self,
        rows: Iterable[Item] | AsyncIterable[Item],
        total: int | None = None,
        label: tracking.Label[Item] | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Do what `track` does, for ``async for``; the items may come from either kind of iterable."""
        return tracking.follow_async(self, rows, _not_negative(total), label)

    def steps(self, steps: int) -> AbstractContextManager[None]:
        """Return a context that is worth a number of steps, all of which are done at its end.

        A tracked loop in it moves them in proportion. If it is left by an exception, what is missing stays missing.
        Raises `TaskCanceledException` if the task has been canceled; `ValueError` for a negative number.
        """
        return tracking.Stage(self, _not_negative(steps) or 0)

    @_alters_data
    def cancel(self, *, terminate: bool = False) -> None:
        """Cancel the task, or a container with all its members; no effect in a final state.

        A task that runs stops at its next step. With `terminate` the queue is asked to end its process at once, where
        it can; what the process held is lost then.
        """
        self._move(transitions.cancel, terminate)

    @_alters_data
    def fail(self, message: Any) -> None:
        """Enter Failed, with the message as an artifact named "Error", on the containers too.

        The message may be a string, an exception or anything that JSON can hold.
        """
        tracking.close(self)
        self._move(transitions.fail, message)

    @_alters_data
    def retry(self) -> None:
        """Enter Retrying and count one more attempt."""
        self._move(transitions.retry)

    @_alters_data
    def set_name(self, name: str) -> None:
        """Name the task and its containers; a name longer than the column is shortened."""
        self._move(transitions.set_name, texts.shorten(name, NAME_LENGTH))

    @_alters_data
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

    @_alters_data
    def succeed(self) -> None:
        """Complete the missing steps and enter Succeeded; a container follows with its last member."""
        tracking.close(self)
        self._move(transitions.succeed)

    @_alters_data
    def add_artifact(
        self,
        name: str = "Output",
        *,
        text: str = "",
        url: str = "",
        file: Any = None,
        json: Any = outputs.NOTHING,
        file_name: str = "",
    ) -> UserTaskArtifact:
        """Add an output: a text, a link, a file or data, and return it.

        `file` is a file that is open for reading in binary mode, the path of one, or its content as bytes; users save
        it as `file_name`, by default its own name. `json` is anything that Django's encoder takes, and is stored as
        text. A status that is never stored stores no output either. Raises `TaskCanceledException` if the task has
        been canceled; nothing is stored then.
        """
        artifact = self._new_artifact(name, text=texts.clean(text), url=url)
        outputs.add(artifact, file=file, json=json, file_name=file_name)
        return artifact

    @_alters_data
    def open_artifact(
        self,
        file_name: str,
        mode: str = "w",
        *,
        name: str = "",
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str = "",
    ) -> outputs.ArtifactWriter:
        """Return what a ``with`` block writes a file by, of any size, that becomes an output if the block ends well.

        The mode is ``"w"`` for text or ``"wb"`` for bytes. Text is encoded as told, and by default keeps its line
        ends, as the module `csv` wants it. The output is called `name`, by default as the file. An exception leaves
        nothing; nor does a cancelation, for which the end of the block raises `TaskCanceledException`.
        """
        options = {} if mode == "wb" else {"encoding": encoding, "errors": errors, "newline": newline}
        shown = name or file_names.base_name(file_name)
        return outputs.ArtifactWriter(self._new_artifact(shown), file_name, mode, options)

    def _new_artifact(self, name: str, **fields: str) -> UserTaskArtifact:
        return UserTaskArtifact(status=self, name=texts.shorten(name, NAME_LENGTH), **fields)

    def _move(self, transition: Callable[..., object], *args: Any) -> None:
        def move() -> None:
            transitions.refresh(self)
            transition(self, *args)

        database = containers.database(self)
        outages.survive(move, database)
        outages.survive(partial(transitions.refresh, self), database)


class ArtifactFile(FieldFile):
    """A file in the storage that the settings name at the time."""

    instance: UserTaskArtifact

    def __init__(self, instance: models.Model, field: models.FileField, name: str | None) -> None:
        super().__init__(instance, field, name)
        self.storage = artifact_storage()

    def save(self, name: str | None, content: File[Any], save: bool = True) -> None:
        """Store the content as Django does, and note what it is; the file that it replaces goes after the commit."""
        given = name or content.name or ""
        super().save(given, content, save=False)
        self.instance.describe_file(given, self._size_of(content))
        if save:
            self.instance.save()

    def delete(self, save: bool = True) -> None:
        """Remove the file after the commit; with `save=False` at once, as nothing is stored then."""
        if not self or not save:
            super().delete(save=save)
            return
        self.close()
        setattr(self.instance, self.field.attname, None)
        self.instance.save()

    def _size_of(self, content: File[Any]) -> int | None:
        if not isinstance(content.file, TextIOBase) and isinstance(size := getattr(content, "size", None), int):
            return size
        return stored_files.size_of(self.storage, str(self.name))


class ArtifactFileField(models.FileField):
    """A plain FileField to migrations, whatever the settings."""

    attr_class = ArtifactFile

    max_length: int
    """Characters of a path; Django's default is 100."""

    def generate_filename(self, instance: models.Model | None, filename: Any) -> str:
        """Return the path of a file, made valid by the storage that the settings name at the time."""
        folder = datetime.now().strftime(str(self.upload_to))  # noqa: DTZ005 - as Django does
        path = str(validate_file_name(f"{folder}{filename}", allow_relative_path=True))
        storage = artifact_storage()
        return storage.generate_filename(file_names.stored_name(storage, path, self.max_length))

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
        _("file"), null=True, blank=True, storage=artifact_storage, upload_to=f"{file_names.FOLDER}%Y/%m/%d/"
    )
    file_name = models.CharField(
        _("file name"),
        max_length=NAME_LENGTH,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("The name that a download gets"),
    )
    size = models.BigIntegerField(_("size"), null=True, editable=False, help_text=_("Size of the file, in bytes"))
    content_type = models.CharField(
        _("content type"),
        max_length=content_types.LENGTH,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("What the file, or else the text, is"),
    )
    stored = models.DateTimeField(_("stored"), null=True, editable=False, help_text=_("When its file was stored"))
    expired = models.DateTimeField(
        _("expired"), null=True, editable=False, help_text=_("When its file was removed for its age")
    )
    url = models.TextField(_("URL"), blank=True, validators=[URLValidator()])
    text = models.TextField(_("text"), blank=True)

    objects = UserTaskArtifactQuerySet.as_manager()

    _stored: Mapping[str, Any] = {}
    """What the row has of the file, as far as it is known."""

    class Meta:
        verbose_name = _("user task artifact")
        verbose_name_plural = _("user task artifacts")
        # Django deletes the artifacts of a status by the query set of this manager, which sees to their files.
        base_manager_name = "objects"
        indexes = [
            # Everybody's list, the newest first.
            models.Index(fields=["-created", "-id"], name="user_tasks_artifact_newest"),
            # Whether any row names a file that is about to go.
            models.Index(fields=["file"], name="user_tasks_artifact_file"),
        ]

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any
    ) -> UserTaskArtifact:
        """Make an instance of a row as Django does."""
        artifact = super().from_db(db, field_names, values, **options)
        artifact._stored = {name: value for name, value in zip(field_names, values, strict=True) if name in FILE_FIELDS}
        return artifact

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, from_queryset: Any = None
    ) -> None:
        """Read the row again as Django does."""
        names = None if fields is None else list(fields)
        super().refresh_from_db(using, names, from_queryset)
        self._note_stored(FILE_FIELDS if names is None else names)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as Django does; a file that another one replaces goes after the commit.

        What has not changed here of the file is not written: it may have been replaced, or have expired, meanwhile.
        """
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        if self._state.adding or self._state.db != using or kwargs.get("force_insert"):
            super().save(*args, **kwargs)
            self._note_stored(FILE_FIELDS)
            return
        names = kwargs.get("update_fields")
        names = self._names_read() if names is None else set(names)
        if "file" in names and self._has_another_file():
            self._replace_file(using, *args, **{**kwargs, "update_fields": names.union(FILE_FIELDS)})
        else:
            unchanged = {name for name, value in self._stored.items() if name == "file" or vars(self)[name] == value}
            super().save(*args, **{**kwargs, "update_fields": names - unchanged})
        self._note_stored(names)

    def _replace_file(self, using: str, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(using=using, savepoint=False):
            # Whoever replaces it at the same time waits for this one, and finds its file.
            self._row(using).update(modified=models.F("modified"))
            replaced = self._row(using).sizes_by_file()
            if vars(self.file)["_committed"]:
                self._forget_another_file()
            super().save(*args, **kwargs)
            replaced.pop(str(self.file.name), None)
            stored_files.release_named(replaced, using)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete as Django does; the file goes after the commit."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            stored_files.release(self._row(using))
            return super().delete(using=using, keep_parents=keep_parents)

    @property
    def expires(self) -> datetime | None:
        """Until when the file is kept, at least; None where there is none."""
        return lifetimes.end(self) if self.file else None

    def signed_url(self, expires: timedelta) -> str:
        """Return the path of a link to the file, or text, that opens without logging in for this long.

        It is for e-mails; put the address of the site before it. It ends earlier if the artifact goes. Raises
        `NoReverseMatch` where neither ``user_tasks.urls`` nor ``user_tasks.pages.urls`` are among the project's URLs.
        """
        return links.path_for(self, expires)

    def describe_file(self, name: str, size: int | None) -> None:
        """Note what a file is that has just been stored; the size is in bytes."""
        self.file_name = file_names.shortened(file_names.base_name(name), NAME_LENGTH)
        self.content_type = content_types.guess(self.file_name)
        self.size = size
        self.stored, self.expired = timezone.now(), None
        self._described = self.file.name

    def _row(self, using: str) -> UserTaskArtifactQuerySet:
        return UserTaskArtifactQuerySet(UserTaskArtifact, using=using).filter(pk=self.pk)

    def _names_read(self) -> set[str]:
        """Return what Django saves of an instance that has been read, some fields perhaps deferred."""
        fields = self._meta.concrete_fields
        return {field.name for field in fields if field.attname in vars(self) and not field.primary_key}

    def _note_stored(self, names: Iterable[str]) -> None:
        """Remember what the row has of the file, as far as that has just been read or written."""
        known = {name: vars(self)[name] for name in names if name in FILE_FIELDS and name in vars(self)}
        if "file" in known:
            known["file"] = self.file.name
        self._stored = {**self._stored, **known}

    def _has_another_file(self) -> bool:
        return not vars(self.file)["_committed"] or (self.file.name or "") != (self._stored.get("file") or "")

    def _forget_another_file(self) -> None:
        """Know nothing of a file that has been named rather than stored, in place of another or of none."""
        described = vars(self).pop("_described", None)
        if not self.file or self.file.name != described:
            self.file_name, self.content_type, self.size = "", "", None
            self.stored = timezone.now() if self.file else None
            self.expired = None if self.file else self.expired

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
