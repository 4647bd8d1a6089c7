"""The states of a task: which are final, and what the members' states make of their container."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class State(TextChoices):
    """The states with a meaning of their own; any other text is a custom in-progress state."""

    PENDING = "Pending", _("Pending")
    IN_PROGRESS = "In Progress", _("In Progress")
    SUCCEEDED = "Succeeded", _("Succeeded")
    FAILED = "Failed", _("Failed")
    CANCELED = "Canceled", _("Canceled")
    RETRYING = "Retrying", _("Retrying")


FINAL = (State.SUCCEEDED.value, State.FAILED.value, State.CANCELED.value)
"""Left by nothing, but for a task taken for lost that proves to be alive."""

UNSUCCESSFUL = (State.FAILED.value, State.CANCELED.value)
"""The final states behind which nothing follows."""

STATE_LENGTH = 128
"""The longest state, in characters."""

WAITING = (State.PENDING.value, State.RETRYING.value)
"""A message is on its way and no worker executes it."""

TRANSLATIONS = {state.value: state.label for state in State}


def is_final(state: str) -> bool:
    """Tell whether nothing follows the state."""
    return state in FINAL


def text_of(state: str) -> str:
    """Return the state in the active language; a custom state as it is."""
    return str(TRANSLATIONS.get(state, state))


def value_of(state: object) -> str:
    """Return the text to store for a state, which may be an Enum member or a lazy string."""
    return str(state.value if isinstance(state, Enum) else state)


def fold(states: Iterable[str]) -> str:
    """Return the final state of a container whose members, all of them at rest, have these states."""
    found = set(states)
    if State.FAILED in found:
        return State.FAILED.value
    if State.CANCELED in found:
        return State.CANCELED.value
    return State.SUCCEEDED.value
