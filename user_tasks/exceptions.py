"""The exceptions of the package."""

from __future__ import annotations


class TaskCanceledException(RuntimeError):
    """Raised inside a running task whose status has been canceled or deleted, to make it stop."""
