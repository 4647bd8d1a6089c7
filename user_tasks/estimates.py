"""What the numbers of a task say about its progress and its end: pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from .states import State

HORIZON = timedelta(days=365)
"""What would take longer than this is not estimated."""


def progress(state: str, completed_steps: int, total_steps: int) -> float:
    """Return how much is done, from 0 to 1: a task that succeeded is done, one without steps has not begun."""
    if state == State.SUCCEEDED:
        return 1.0
    if total_steps <= 0:
        return 0.0
    return min(max(completed_steps / total_steps, 0.0), 1.0)


def percent(state: str, completed_steps: int, total_steps: int) -> int:
    """Return the progress in whole percent, rounded down: 100 is not reached before the last step."""
    if state == State.SUCCEEDED:
        return 100
    if total_steps <= 0:
        return 0
    return min(max(100 * completed_steps // total_steps, 0), 100)


def time_left(started: datetime | None, now: datetime, completed_steps: int, total_steps: int) -> timedelta | None:
    """Return how long the remaining steps will take if they take as long as those done so far.

    None where nothing can be told: no step is done yet, or none is left.
    """
    if started is None or not 0 < completed_steps < total_steps:
        return None
    per_step = max(now - started, timedelta()).total_seconds() / completed_steps
    seconds = per_step * (total_steps - completed_steps)
    return timedelta(seconds=seconds) if seconds <= HORIZON.total_seconds() else None
