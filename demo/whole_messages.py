"""A broker in a folder whose workers never find half a message.

Kombu writes a message into the file in which workers look for it: one that looks before it is all there meets a syntax
error and ends. Here the file gets the name that they look for when it is whole.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Puts whole messages."""

    def _put(  # type: ignore[override]  # the two classes above name this argument differently
        self, queue: str, payload: Any, **_kwargs: Any
    ) -> None:
        file = Path(self.data_folder_out, f"{round(monotonic() * 1000)}_{uuid4()}.{queue}.msg")
        draft = file.with_suffix(".draft")
        draft.write_text(dumps(payload))
        draft.rename(file)


class Transport(filesystem.Transport):
    """Kombu's, with that channel."""

    Channel = Channel


def install() -> None:
    """Make ``filesystem://`` mean this broker."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
