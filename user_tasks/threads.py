"""The connection of the thread in which coroutines run their queries: no request and no task ends there."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

from asgiref.sync import sync_to_async
from django.db import connections

from . import outages


class Use:
    """One loop's use of a thread."""


class Thread(threading.local):
    """What is known of the current thread."""

    def __init__(self) -> None:
        self.uses: WeakSet[Use] = WeakSet()
        self.opened: Any = None
        """The database driver's connection that the last use has left open."""
        self.is_connected_by_use = False

    def enter(self, use: Use) -> None:
        """Begin a use; one that finds no connection, or that of a use before, has that closed in the end."""
        connection = connections[outages.home()]
        if not self.uses and connection.connection in (None, self.opened):
            connection.close_if_unusable_or_obsolete()
            self.is_connected_by_use = True
        self.uses.add(use)

    def leave(self, use: Use) -> None:
        """End a use; after the last the connection is closed, if Django would close it between two requests."""
        self.uses.discard(use)
        if not self.uses and self.is_connected_by_use:
            connection = connections[outages.home()]
            connection.close_if_unusable_or_obsolete()
            self.opened, self.is_connected_by_use = connection.connection, False


thread = Thread()


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Close the connection in the end that is opened meanwhile, in the thread in which `sync_to_async` runs queries.

    A connection that was open before is left alone: the thread is the task's own, or its project queries there itself.
    """
    use = Use()
    try:
        await sync_to_async(thread.enter)(use)
        yield
    finally:
        await sync_to_async(thread.leave)(use)
