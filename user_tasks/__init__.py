"""User-triggered asynchronous tasks whose status the user can see."""

from __future__ import annotations

from django.dispatch import Signal

__version__ = "5.0.0"

user_task_stopped = Signal()
"""Sent once per entry into a final state, after it is stored: ``sender=UserTaskStatus``, ``status=<instance>``."""

user_tasks_revoked = Signal()
"""Sent for the queue to forget tasks that must not start any more: ``sender=UserTaskStatus``,
``task_ids=<list of str>``, ``terminate=<bool>``, which asks it to end the processes that execute them."""
