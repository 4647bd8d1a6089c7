"""Loops and stages that count themselves, and are written a few times a second."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, InterfaceError
from django.utils.functional import Promise

from . import states, texts, threads, transitions
from .conf import settings
from .exceptions import TaskCanceledException
from .states import STATE_LENGTH, WAITING, State

if TYPE_CHECKING:
    from types import TracebackType

    from .models import UserTaskStatus

Item = TypeVar("Item")
Label = str | Promise | Callable[[Item], object]

logger = logging.getLogger(__name__)

AHEAD = 4
"""How many intervals the writes may be ahead for the beginning of a loop to be written before that is due."""


class Tracker:
    """What the open loops and stages of one status have done, and when that is written next.

    The steps that the status has, and that nothing has been counted on or is claimed by an open loop, are spare: a
    new loop takes those first, and adds what it lacks to the steps in all.
    """

    def __init__(self, status: UserTaskStatus) -> None:
        self.status = status
        self.open: list[Share] = []
        self.due = 0.0
        self.completed = 0
        self.total = 0
        self._state = ""
        self._label = ""
        self._paid_until = 0.0
        self._is_closed = False

    def enter(self, share: Share, status: UserTaskStatus) -> None:
        """Open a loop or stage; what an outermost one has to tell is written with its first item.

        Of many short ones in a row, that is only done every interval, as within a loop.
        """
        if self._is_closed:
            return
        is_outermost = not self.open
        if is_outermost:
            self._read(status)
        share.stage = self.innermost_stage()
        share.enter()
        self.open.append(share)
        if is_outermost and (self.total or share.has_label) and self._paid_until <= self._furthest():
            self.due = 0.0

    def _read(self, status: UserTaskStatus) -> None:
        """Bring a status up to date, unless that was done within the interval."""
        if status is not self.status or monotonic() >= self.due:
            transitions.halt_if_canceled(status)
            self.due = monotonic() + settings.USER_TASKS_TRACK_SECONDS
        self.status = status
        if status.state != self._label:
            self._label = ""

    def leave(self, share: Share, is_broken: bool) -> None:
        """Close a loop or stage; the outermost one is written, one that is broken off as far as that can be done.

        It is written whether that is due or not: nobody knows when the next one begins. One that is not open has been
        closed with its execution, or was broken off before it began.
        """
        if share not in self.open:
            return
        share.leave(is_broken)
        self.open.remove(share)
        if is_broken:
            # What is raised here would be lost: Python closes generators behind everybody's back.
            if not self.open:
                self._write_what_is_possible()
        elif monotonic() >= self.due or (not self.open and self._is_behind()):
            self.write()

    def close(self) -> None:
        """Write what has been done until the end of an execution, and nothing after that.

        A loop is left later than that: a retry is published in the middle of one, an error holds on to what it broke
        off, and a variable to what nobody goes on with.
        """
        for share in self.open:
            share.collect()
        self.open.clear()
        self._write_what_is_possible()
        self._is_closed = True

    def write(self) -> None:
        """Write the steps and the label; raise `TaskCanceledException` if the task has been canceled."""
        if self._is_closed:
            return
        completed, total = self._take_steps()
        if completed or total:
            transitions.step(self.status, completed, total)
        else:
            transitions.halt_if_canceled(self.status)
        self._show(self._current_label())
        now, seconds = monotonic(), settings.USER_TASKS_TRACK_SECONDS
        self.due = now + seconds
        self._paid_until = min(max(self._paid_until, now), self._furthest()) + seconds

    def _furthest(self) -> float:
        seconds: float = settings.USER_TASKS_TRACK_SECONDS
        return monotonic() + AHEAD * seconds

    def _is_behind(self) -> bool:
        """Tell whether the row does not say what is true now that no loop is open."""
        return bool(self.completed or self.total or self._label)

    def claim(self, steps: int) -> None:
        """Reserve steps for a loop or stage, of the spare ones first."""
        self.total += max(steps - self._spare(), 0)

    def _spare(self) -> int:
        if self.status.is_container:
            return 0  # its steps are those of its members
        claimed = sum(share.left for share in self.open if share.stage is None)
        there = self.status.total_steps + self.total
        return max(there - self.status.completed_steps - self.completed - claimed, 0)

    def innermost_stage(self) -> Stage | None:
        """Return the stage that is open, if any."""
        return next((share for share in reversed(self.open) if isinstance(share, Stage)), None)

    def _take_steps(self) -> tuple[int, int]:
        """Return the steps that are to be written, done and in all; they are tried once."""
        for share in self.open:
            share.collect()
        completed, total, self.completed, self.total = self.completed, self.total, 0, 0
        return completed, total

    def _write_what_is_possible(self) -> None:
        """Write the steps, and take the label back; an error that is on its way matters more than one here."""
        if not self._is_behind():
            return
        self.due = 0.0  # a cancelation is told by the next loop
        unwritten = self.completed, self.total
        try:
            with suppress(TaskCanceledException):
                self.write()
        except SynchronousOnlyOperation:
            # Closed by the garbage collector, in an event loop; the next loop writes them, or the end of the execution.
            self.completed, self.total = unwritten
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The last steps of task %s could not be written: %s", self.status.task_id, error)

    def _current_label(self) -> str:
        return next(filter(None, (share.label_text() for share in reversed(self.open))), "")

    def _show(self, label: str) -> None:
        """Enter the label as a state, or, after the last one, the state before the first."""
        if label == self._label:
            return
        if not self._label:
            self._state = self.status.state
        if label:
            transitions.set_state(self.status, label)
        elif self.status.state == self._label:
            transitions.set_state(self.status, State.IN_PROGRESS if self._state in WAITING else self._state)
        self._label = label


class Share:
    """A part of a task, and the steps that it has claimed and counted."""

    stage: Stage | None = None
    """The stage that its steps belong to."""

    has_label = False
    """Whether it has anything to show as the state."""

    def __init__(self, status: UserTaskStatus) -> None:
        self.status = status
        self.tracker = tracker_of(status)
        self.claimed = 0
        self.counted = 0

    def __enter__(self) -> None:
        self.tracker.enter(self, self.status)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.tracker.leave(self, is_broken=kind is not None)

    def enter(self) -> None:
        """Claim the steps that are known."""

    def leave(self, is_broken: bool) -> None:
        """Count what is done."""

    def collect(self) -> None:
        """Count what has been done since the last time."""

    def label_text(self) -> str:
        """Return the text to show as the state, if any."""
        return ""

    def claim(self, steps: int) -> None:
        """Claim more steps, of the stage if there is one."""
        (self.stage or self.tracker).claim(steps)
        self.claimed += steps

    @property
    def left(self) -> int:
        """The steps that have been claimed and are not counted yet."""
        return self.claimed - self.counted

    def count(self, steps: int) -> None:
        """Count steps, on the stage too."""
        self.counted += steps
        if self.stage is None:
            self.tracker.completed += steps
        else:
            self.stage.count(steps)


class Stage(Share):
    """A part of a task that is worth a number of steps, whatever happens in it."""

    def __init__(self, status: UserTaskStatus, worth: int) -> None:
        super().__init__(status)
        self.worth = worth

    def __enter__(self) -> None:
        super().__enter__()
        try:
            if monotonic() >= self.tracker.due:
                self.tracker.write()
        except BaseException:
            self.tracker.leave(self, is_broken=True)
            raise

    def enter(self) -> None:
        """Claim what it is worth."""
        Share.claim(self, self.worth)

    def leave(self, is_broken: bool) -> None:
        """Count what is missing, unless it is broken off."""
        if not is_broken:
            self.count(self.left)

    def count(self, steps: int) -> None:
        """Count steps, of which there are no more than it is worth."""
        super().count(min(steps, self.left))

    def count_by_hand(self, steps: int) -> None:
        """Count steps that have been written already."""
        self.counted += min(steps, self.left)
        if self.stage is not None:
            self.stage.count_by_hand(steps)

    def claim(self, steps: int) -> None:
        """Let an inner stage have some of its steps; claim those that it lacks itself."""
        lacking = steps - self.left
        if lacking > 0:
            super().claim(lacking)


class Loop(Share):
    """A loop whose items are steps; in a stage, they move what is left of that in proportion."""

    def __init__(self, status: UserTaskStatus, rows: object, total: int | None, label: Label[Any] | None) -> None:
        super().__init__(status)
        self.length = length_of(rows) if total is None else total
        self.label = label
        self.has_label = label is not None
        self.done = 0
        self.item: Any = None

    def enter(self) -> None:
        """Claim a step for each item, or what is left of the stage; a loop in a loop of a stage moves nothing."""
        if self.stage is None:
            self.claim(self.length or 0)
        elif self.tracker.open[-1] is self.stage:
            self.claimed = self.stage.left

    def leave(self, is_broken: bool) -> None:
        """Count what is done; what had been claimed beyond that is spare again."""
        self.collect()

    def collect(self) -> None:
        """Count the items, or their share of the stage, since the last time."""
        done = self.done if self.stage is None else self._share_of_stage()
        if self.stage is None and done > self.claimed:
            self.claim(done - self.claimed)
        if done > self.counted:
            self.count(done - self.counted)

    def label_text(self) -> str:
        """Return what the label says about the current item; nothing that has a meaning of its own as a state."""
        text = self.label(self.item) if callable(self.label) else self.label
        shown = "" if text is None else texts.shorten(states.value_of(text), STATE_LENGTH)
        return "" if shown in State.values else shown

    def _share_of_stage(self) -> int:
        return self.claimed * min(self.done, self.length) // self.length if self.length else 0


def tracker_of(status: UserTaskStatus) -> Tracker:
    """Return the one tracker of a status, and of what is read anew of the same execution."""
    if status.progress_tracker is None:
        status.progress_tracker = Tracker(status)
    return status.progress_tracker


def close(status: UserTaskStatus) -> None:
    """Write what the loops and stages of a status have done, at the end of its execution, and no more after that."""
    if status.progress_tracker is not None:
        status.progress_tracker.close()


def counted_by_hand(status: UserTaskStatus, completed: int = 0, total: int = 0) -> None:
    """Take note of steps that have been written to a status outside of loops; in a stage they belong to that."""
    tracker = status.progress_tracker
    if tracker is None:
        return
    if tracker.status is not status:
        tracker.status.completed_steps += completed
        tracker.status.total_steps += total
    stage = tracker.innermost_stage()
    if stage is not None:
        stage.count_by_hand(completed)


def length_of(rows: object) -> int | None:
    """Return how many items there are, None where that cannot be told before they have been consumed."""
    try:
        return len(rows)  # type: ignore[arg-type]  # what has no length says so
    except TypeError:
        return None


def follow(
    status: UserTaskStatus, rows: Iterable[Item], total: int | None, label: Label[Item] | None
) -> Generator[Item, None, None]:
    """Yield the items; each is a step of the status once the next is asked for."""
    loop = Loop(status, rows, total, label)
    tracker = loop.tracker
    with loop:
        for item in rows:
            loop.item = item
            if monotonic() >= tracker.due:
                tracker.write()
            yield item
            loop.done += 1


async def follow_async(
    status: UserTaskStatus, rows: Iterable[Item] | AsyncIterable[Item], total: int | None, label: Label[Item] | None
) -> AsyncGenerator[Item, None]:
    """Do what `follow` does, with the database in a thread for what is synchronous."""
    async with threads.connected():
        loop = await sync_to_async(Loop)(status, rows, total, label)
        tracker = loop.tracker
        try:
            # One that is canceled here may be opened all the same: the thread does it before it leaves it.
            await sync_to_async(loop.__enter__)()
            async for item in _each(rows):
                loop.item = item
                if monotonic() >= tracker.due:
                    await sync_to_async(tracker.write)()
                yield item
                loop.done += 1
            await sync_to_async(tracker.leave)(loop, is_broken=False)
        except BaseException:
            await sync_to_async(tracker.leave)(loop, is_broken=True)
            raise


async def _each(rows: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    if isinstance(rows, AsyncIterable):
        async for item in rows:
            yield item
    else:
        for item in rows:
            yield item
