"""Who may see and do what: the one implementation behind the REST API and the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conf import settings
from .models import UserTaskArtifact, UserTaskStatus

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet


def permission(action: str, model: type[Model]) -> str:
    """Return the full name of the permission for an action: view, change, delete or cancel."""
    return f"user_tasks.{action}_{model._meta.model_name}"


def allows(user: Any, action: str, subject: Model | type[Model]) -> bool:
    """Tell whether the user may do this to an object, or, given a model, to any object at all.

    An anonymous user may do nothing, as in the API.
    """
    if not user.is_authenticated:
        return False
    if isinstance(subject, type):
        return bool(user.has_perms([permission(action, subject)]))
    name = permission(action, type(subject))
    return bool(user.has_perms([name]) and user.has_perms([name], subject))


def visible_statuses(request: Any, queryset: QuerySet[UserTaskStatus], view: Any = None) -> QuerySet[UserTaskStatus]:
    """Return the statuses that the project's filters leave for this request."""
    filtered: QuerySet[UserTaskStatus] = _filtered(settings.USER_TASKS_STATUS_FILTERS, request, queryset, view)
    return filtered


def visible_artifacts(
    request: Any, queryset: QuerySet[UserTaskArtifact], view: Any = None
) -> QuerySet[UserTaskArtifact]:
    """Return the artifacts that the project's filters leave for this request."""
    filtered: QuerySet[UserTaskArtifact] = _filtered(settings.USER_TASKS_ARTIFACT_FILTERS, request, queryset, view)
    return filtered


def _filtered(backends: tuple[Any, ...], request: Any, queryset: Any, view: Any) -> Any:
    for backend in backends:
        queryset = backend().filter_queryset(request, queryset, view)
    return queryset
