"""Statuses and artifacts as a person is shown them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from .. import access, downloads, estimates, lifetimes, states
from ..states import State
from . import durations

if TYPE_CHECKING:
    from ..models import UserTaskArtifact, UserTaskStatus

TEXT_SHOWN = 64 * 1024
"""Characters of an artifact's text that its page holds."""

TEXT_UNFOLDED = 400
"""Characters up to which a text is shown without being asked for."""

LINES_UNFOLDED = 8

LINKED_SCHEMES = ("http", "https", "ftp", "ftps")
"""What an artifact's URL may lead to; whatever else it says is shown, and not made a link."""

TONES: dict[str, str] = {
    State.PENDING: "waiting",
    State.RETRYING: "waiting",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
}

NEWS = timedelta(minutes=1)
"""How long the end of a task is news to a screen reader."""

ANNOUNCED_EVERY = 25
"""The steps, in percent, in which a screen reader is told of progress."""


@dataclass(frozen=True)
class Task:
    """A status as its user is shown it at one moment."""

    status: UserTaskStatus
    user: Any
    now: datetime

    @property
    def uuid(self) -> str:
        """The id in URLs."""
        return str(self.status.uuid)

    @cached_property
    def url(self) -> str:
        """Where its own page is."""
        return reverse("user_tasks:status", args=[self.uuid])

    @cached_property
    def container(self) -> UserTaskStatus | None:
        """What it is a part of, if the user may see that."""
        parent = self.status.parent
        return parent if parent is not None and access.allows(self.user, "view", parent) else None

    @property
    def parts_url(self) -> str:
        """Where the list of its parts is."""
        return reverse("user_tasks:parts", args=[self.uuid])

    @property
    def name(self) -> str:
        """Its name, or the kind of task where it has none."""
        return self.status.name or self.status.task_class

    @property
    def tone(self) -> str:
        """Which of the five ways of looking fits its state."""
        return TONES.get(self.status.state, "running")

    @property
    def is_final(self) -> bool:
        """Whether nothing follows its state."""
        return states.is_final(self.status.state)

    @property
    def is_stopping(self) -> bool:
        """Whether it has been canceled and a worker still executes it."""
        status = self.status
        return status.state == State.CANCELED and status.started is not None and status.finished is None

    @property
    def is_live(self) -> bool:
        """Whether what is shown here may change by itself."""
        return not self.is_final or self.is_stopping

    @property
    def has_just_ended(self) -> bool:
        """Whether its end is news."""
        return self.is_final and self.status.modified > self.now - NEWS

    @property
    def is_indeterminate(self) -> bool:
        """Whether it runs and its steps say nothing about how far it is."""
        return self.tone == "running" and self.status.total_steps <= 1 and self.status.completed_steps <= 0

    @cached_property
    def percent(self) -> int:
        """How much is done, in whole percent, rounded down."""
        status = self.status
        return estimates.percent(status.state, status.completed_steps, status.total_steps)

    @property
    def percent_text(self) -> str:
        """How much is done, for people; empty where that is not known."""
        return "" if self.is_indeterminate else _("%(percent)d%%") % {"percent": self.percent}

    @property
    def steps_text(self) -> str:
        """The steps, for people; empty where there are too few to tell anything."""
        total = self.status.total_steps
        if total <= 1:
            return ""
        numbers = {"completed": _grouped(self.status.completed_steps), "total": _grouped(total)}
        return ngettext("%(completed)s of %(total)s step", "%(completed)s of %(total)s steps", total) % numbers

    @property
    def value_text(self) -> str:
        """What the progress bar says to those who do not see it."""
        return pgettext("between two facts", ", ").join(filter(None, [self.percent_text, self.steps_text]))

    @cached_property
    def elapsed_text(self) -> str:
        """How long it has run, or ran; empty before that."""
        elapsed = self._elapsed
        if elapsed is None:
            return ""
        return durations.rough(elapsed) if self.is_live else durations.exact(elapsed)

    @cached_property
    def left_text(self) -> str:
        """How long it will probably run yet; empty where that cannot be told."""
        status = self.status
        if self.tone != "running":
            return ""
        left = estimates.time_left(status.started, self.now, status.completed_steps, status.total_steps)
        return "" if left is None else durations.rough(left)

    @property
    def announcement(self) -> str:
        """What a screen reader says when it changes: at each new state, and at quarters of the way in between."""
        label = State.IN_PROGRESS.label if self.tone == "running" else self.status.state_text
        text = _("%(name)s: %(state)s") % {"name": self.name, "state": label}
        if self.tone != "running" or self.is_indeterminate:
            return text
        quarter = self.percent // ANNOUNCED_EVERY * ANNOUNCED_EVERY
        return _("%(announcement)s, %(percent)d%%") % {"announcement": text, "percent": quarter}

    @property
    def can_cancel(self) -> bool:
        """Whether the user may cancel it, and it would make a difference."""
        return not self.is_final and access.allows(self.user, "cancel", self.status)

    @property
    def can_delete(self) -> bool:
        """Whether the user may delete it: when it is finished, and as a whole."""
        whole = self.status.parent_id is None
        return self.is_final and whole and access.allows(self.user, "delete", self.status)

    @property
    def version(self) -> tuple[Any, ...]:
        """All that its looks depend on."""
        status = self.status
        return (self.uuid, status.modified, status.state, self.elapsed_text, self.left_text, self.is_stopping)

    @property
    def _elapsed(self) -> timedelta | None:
        status = self.status
        if status.started is None or self.tone == "waiting":
            return None
        end = status.finished or (self.now if self.is_live else status.modified)
        return max(end - status.started, timedelta())


@dataclass(frozen=True)
class Output:
    """An artifact as its user is shown it; of its text, the start and the length have been read with it."""

    artifact: UserTaskArtifact
    is_of_part: bool = False

    @property
    def part_name(self) -> str:
        """The name of the part that it comes from; empty where it comes from the task itself."""
        return (self.artifact.status.name or self.artifact.status.task_class) if self.is_of_part else ""

    @property
    def part_url(self) -> str:
        """Where the page of that part is."""
        return reverse("user_tasks:status", args=[self.artifact.status.uuid])

    @property
    def uuid(self) -> str:
        """The id in URLs."""
        return str(self.artifact.uuid)

    @property
    def is_error(self) -> bool:
        """Whether it tells why the task failed."""
        return self.artifact.name == "Error"

    @property
    def name(self) -> str:
        """Its name, in the active language where it is one that the package gives."""
        return {"Error": _("Error"), "Output": _("Output")}.get(self.artifact.name, self.artifact.name)

    @property
    def link(self) -> str:
        """Its URL, if that is one to follow."""
        try:
            scheme = urlsplit(self.artifact.url).scheme
        except ValueError:
            return ""
        return self.artifact.url if scheme.lower() in LINKED_SCHEMES else ""

    @property
    def file_name(self) -> str:
        """The name of its file, as a download gets it; empty where there is none, and never was."""
        return downloads.file_name(self.artifact) if self.artifact.file or self.artifact.expired else ""

    @property
    def download_url(self) -> str:
        """Where its file is; empty where that is gone for its age."""
        return "" if lifetimes.is_over(self.artifact) else reverse("user_tasks:download", args=[self.uuid])

    @property
    def gone_text(self) -> str:
        """What tells that its file is gone."""
        return downloads.gone_text(self.artifact)

    @property
    def kept_until(self) -> datetime | None:
        """Until when its file is kept, where that is still to come."""
        end = self.artifact.expires
        return end if end is not None and end > timezone.now() else None

    @property
    def size(self) -> int | None:
        """The length of its file, in bytes, if that was noted when the file was stored."""
        return self.artifact.size

    @property
    def text(self) -> str:
        """Its text, as much of it as the page holds."""
        return str(self.artifact.text_start)  # type: ignore[attr-defined]  # by with_text_start

    @property
    def is_cut(self) -> bool:
        """Whether the text goes on beyond that."""
        return self.length > len(self.text)

    @property
    def length(self) -> int:
        """The characters of the whole text."""
        return int(self.artifact.text_length)  # type: ignore[attr-defined]  # by with_text_start

    @property
    def is_long(self) -> bool:
        """Whether the text is folded until it is asked for."""
        return len(self.text) > TEXT_UNFOLDED or self.text.count("\n") >= LINES_UNFOLDED

    @property
    def excerpt(self) -> str:
        """The beginning of a long text, on one line."""
        return " ".join(self.text[:TEXT_UNFOLDED].split())[: TEXT_UNFOLDED // 3]

    @property
    def text_url(self) -> str:
        """Where the whole text is."""
        return reverse("user_tasks:text", args=[self.uuid])


def _grouped(number: int) -> str:
    return number_format(number, force_grouping=True)
