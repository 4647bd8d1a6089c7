"""Links to artifacts that open without logging in, until a time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.core.signing import BadSignature, Signer
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

if TYPE_CHECKING:
    from .models import UserTaskArtifact

SALT = "user_tasks.links"

VIEWS = ("usertaskartifact-shared", "user_tasks:shared")
"""Where such links lead: to the API, or to the pages where the project has no API."""


class LinkExpiredError(Exception):
    """The link was right, and its time is over."""


def path_for(artifact: UserTaskArtifact, expires: timedelta) -> str:
    """Return the path of a link that is right for this long. Raises `NoReverseMatch` without the package's URLs."""
    until = int(timezone.now().timestamp() + expires.total_seconds())
    token = Signer(salt=SALT, sep=".").sign_object([artifact.uuid.hex, until])
    for view in VIEWS:
        try:
            return reverse(view, kwargs={"token": token})
        except NoReverseMatch:
            continue
    raise NoReverseMatch("Links to artifacts need user_tasks.urls or user_tasks.pages.urls among the project's URLs.")


def uuid_of(token: str) -> UUID:
    """Return the id of the artifact that a link leads to.

    Raises `BadSignature` for what is no such link, and `LinkExpiredError`.
    """
    try:
        uuid, until = Signer(salt=SALT, sep=".").unsign_object(token)
        found, end = UUID(hex=uuid), float(until)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadSignature(str(error)) from error
    if end <= timezone.now().timestamp():
        raise LinkExpiredError(token)
    return found
