"""Progress of a tight loop, written a few times a second."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from user_tasks.models import UserTaskStatus

INTERVAL = 0.1


class Progress:
    """Collects steps and states, and writes them to the status at most every `INTERVAL` seconds.

    What a loop has done since the last writing is left to `finish`; a canceled task ends at the next writing, by the
    `TaskCanceledException` that the status raises.
    """

    def __init__(self, status: UserTaskStatus) -> None:
        self.status = status
        self.steps = 0
        self.state = ""
        self.due = monotonic()

    def advance(self, steps: int, state: str = "") -> None:
        """Count steps, and show the state from now on."""
        self.steps += steps
        if monotonic() >= self.due:
            self.write(state)
            self.due = monotonic() + INTERVAL

    def finish(self) -> None:
        """Write what is left."""
        self.write()

    def write(self, state: str = "") -> None:
        """Write now."""
        if state and state != self.state:
            self.status.set_state(state)
            self.state = state
        if self.steps:
            steps, self.steps = self.steps, 0
            self.status.increment_completed_steps(steps)
