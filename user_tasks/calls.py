"""What the call of a task says: its arguments by name, who triggered it, and how users will read it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .recording import Description

MISSING_USER_ID = "Each invocation of a UserTaskMixin subclass must include the user_id"


class TrackedTask(Protocol):
    """A task that tells about its calls."""

    name: str

    def arguments_as_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by name."""

    def generate_name(self, arguments_dict: dict[str, Any]) -> str:
        """Return the name of a call."""

    def calculate_total_steps(self, arguments_dict: dict[str, Any]) -> int:
        """Return the steps of a call."""


Lookup = Callable[[str], TrackedTask | None]
"""Returns the task of a name; None if it is none of ours."""


def signature_of(task_class: type) -> inspect.Signature:
    """Return the parameters with which a task is called, without the `self` of a bound one."""
    run = inspect.getattr_static(task_class, "run")
    if isinstance(run, staticmethod):
        return inspect.signature(run.__func__)
    signature = inspect.signature(run)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def arguments_of(task: TrackedTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name; raises `TypeError` with a text of its own if the `user_id` is missing."""
    try:
        return task.arguments_as_dict(*args, **kwargs)
    except TypeError:
        if not _lacks_user_id(type(task), args, kwargs):
            raise
        raise TypeError(MISSING_USER_ID) from None


def _lacks_user_id(task_class: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        return "user_id" not in signature_of(task_class).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return "user_id" not in kwargs


def user_id_of(arguments: Mapping[str, Any], default: Any = None) -> Any:
    """Return the `user_id` among a call's arguments, also of those under ``**kwargs``.

    Raises `TypeError` if there is none, nor a default.
    """
    for found in (arguments, *(value for value in arguments.values() if isinstance(value, Mapping))):
        if "user_id" in found:
            return found["user_id"]
    if default is None:
        raise TypeError(MISSING_USER_ID)
    return default


def describe(task: TrackedTask, arguments: dict[str, Any]) -> Description:
    """Return what the task says about a call of it."""
    return Description(str(task.generate_name(arguments)), int(task.calculate_total_steps(arguments)))
