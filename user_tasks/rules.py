"""Permissions by ownership, for the backend of `rules`; in force once the project calls `add_rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rules.permissions import ObjectPermissionBackend, perm_exists, set_perm
from rules.predicates import is_superuser, predicate

if TYPE_CHECKING:
    from .models import UserTaskArtifact, UserTaskStatus


@predicate  # type: ignore[untyped-decorator]  # rules has no annotations
def is_status_creator(user: Any, status: UserTaskStatus | None = None) -> bool:
    """Tell whether the user triggered the task; true where no particular task is asked about."""
    return status is None or bool(status.user_id == user.pk)


@predicate  # type: ignore[untyped-decorator]  # rules has no annotations
def is_artifact_creator(user: Any, artifact: UserTaskArtifact | None = None) -> bool:
    """Tell whether the user triggered the task of the output; true where no particular output is asked about."""
    return artifact is None or bool(artifact.status.user_id == user.pk)


STATUS_PERMISSION = is_status_creator | is_superuser
ARTIFACT_PERMISSION = is_artifact_creator | is_superuser

PERMISSIONS = {
    "user_tasks.view_usertaskstatus": STATUS_PERMISSION,
    "user_tasks.cancel_usertaskstatus": STATUS_PERMISSION,
    "user_tasks.change_usertaskstatus": is_superuser,
    "user_tasks.delete_usertaskstatus": STATUS_PERMISSION,
    "user_tasks.view_usertaskartifact": ARTIFACT_PERMISSION,
    "user_tasks.change_usertaskartifact": is_superuser,
    "user_tasks.delete_usertaskartifact": is_superuser,
}


def add_rules() -> None:
    """Let owners and superusers view, cancel and delete statuses and view artifacts, and superusers do the rest.

    It may be called again; rules of these names that were set before are replaced.
    """
    for name, rule in PERMISSIONS.items():
        set_perm(name, rule)  # type: ignore[no-untyped-call]  # rules has no annotations


def decides(backend: type) -> bool:
    """Tell whether an authentication backend goes by such rules."""
    return issubclass(backend, ObjectPermissionBackend)


def has_rule(permission: str) -> bool:
    """Tell whether a rule has been set for a permission."""
    return bool(perm_exists(permission))  # type: ignore[no-untyped-call]  # rules has no annotations
