"""How tasks make artifacts: whole, or not at all."""

from __future__ import annotations

import json as json_module
import logging
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from . import containers, content_types, file_names, outages, stored_files, texts, transitions
from .exceptions import TaskCanceledException
from .states import State

if TYPE_CHECKING:
    from .models import UserTaskArtifact

logger = logging.getLogger(__name__)

NOTHING: Any = object()
"""Stands for a `json` that is not given, as None is a value there."""


def add(artifact: UserTaskArtifact, *, file: Any = None, json: Any = NOTHING, file_name: str = "") -> None:
    """Keep an artifact, with a file or with data as its text."""
    if json is not NOTHING:
        artifact.text = texts.clean(json_module.dumps(json, cls=DjangoJSONEncoder, ensure_ascii=False))
        artifact.content_type = content_types.JSON
    if file is None:
        _attach(artifact)
    elif isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened:
            _store(artifact, file_name or Path(file).name, File(opened))
    else:
        content = _as_file(file)
        _store(artifact, file_name or content.name or file_names.of_title(artifact.name), content)


class ArtifactWriter:
    """A file being written that becomes an artifact if its block ends well.

    ``with`` gives the open file. What is written waits in a temporary file without a name, of which nothing is left
    when the process is killed.
    """

    def __init__(self, artifact: UserTaskArtifact, file_name: str, mode: str, options: dict[str, Any]) -> None:
        if mode not in ("w", "wb"):
            raise ValueError(f'The mode is {mode!r}, and must be "w" for text or "wb" for bytes.')
        self.artifact = artifact
        """The artifact, which is stored when the block has ended."""
        self.file_name = file_name
        self._mode = mode
        self._options = options
        self._open = ExitStack()

    def __enter__(self) -> IO[Any]:
        transitions.halt_if_canceled(self.artifact.status)
        self._written = self._open.enter_context(TemporaryFile(dir=django_settings.FILE_UPLOAD_TEMP_DIR))
        # Of its own, as many libraries close the file that they have written.
        self._file = os.fdopen(os.dup(self._written.fileno()), f"{self._mode}+", **self._options)
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._open:
            self._file.close()
            if kind is None:
                self._written.seek(0)
                _store(self.artifact, self.file_name, File(self._written, self.file_name), self._content_type())

    def _content_type(self) -> str:
        kind = content_types.guess(self.file_name)
        if self._mode == "w" and content_types.essence(kind).startswith("text/"):
            return f"{kind}; charset={self._options['encoding']}"
        return kind


def _as_file(value: Any) -> File[Any]:
    if isinstance(value, File):
        return value
    if isinstance(value, bytes | bytearray):
        return ContentFile(bytes(value))
    return File(value, name=os.path.basename(str(getattr(value, "name", ""))))  # noqa: PTH119 - may be no path at all


def _store(artifact: UserTaskArtifact, file_name: str, content: File[Any], content_type: str = "") -> None:
    """Store a file and attach it; where it cannot be attached, it is removed again."""
    status = artifact.status
    transitions.halt_if_canceled(status)
    if status.is_detached:
        return
    name = file_names.base_name(file_name)
    artifact.file.save(name, content, save=False)
    artifact.content_type = content_type or artifact.content_type
    try:
        _attach(artifact)
    except BaseException:
        # An error around the commit does not tell whether there is a row.
        _remove_unless_attached(artifact)
        raise


def _remove_unless_attached(artifact: UserTaskArtifact) -> None:
    name = str(artifact.file.name)
    try:
        stored_files.remove_unnamed({name: None}, containers.database(artifact.status))
    except Exception:
        logger.exception("Whether the file %r belongs to an artifact cannot be told; it stays.", name)


def _attach(artifact: UserTaskArtifact) -> None:
    """Insert the row of an artifact, unless its task has been canceled or deleted."""
    status = artifact.status
    transitions.halt_if_canceled(status)
    if status.is_detached:
        return
    database = containers.database(status)
    containers.lock_from_the_top(status)
    outages.survive_once(partial(_insert, artifact, database), partial(_is_inserted, artifact, database), database)


def _insert(artifact: UserTaskArtifact, database: str) -> bool:
    status = artifact.status
    # A try that was rolled back has left its key, which may be another's by now.
    artifact.pk = None
    artifact._state.adding = True
    with transaction.atomic(using=database):
        # Nobody cancels or deletes it before the artifact is there.
        there = containers.row(status).lock()
        canceled = not status.is_container and containers.row(status).filter(state=State.CANCELED).exists()
        if not there or canceled:
            raise TaskCanceledException(f"Task {status.task_id} has been {'canceled' if there else 'deleted'}.")
        artifact.save(using=database, force_insert=True)
    return True


def _is_inserted(artifact: UserTaskArtifact, database: str) -> bool:
    """Tell whether an earlier try has inserted the artifact after all; if so, take its key from there."""
    stored = type(artifact)._base_manager.using(database).filter(uuid=artifact.uuid)
    artifact.pk = stored.values_list("pk", flat=True).first()
    artifact._state.adding = artifact.pk is None
    return artifact.pk is not None
