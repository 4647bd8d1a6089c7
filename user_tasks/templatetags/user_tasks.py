"""Tags that place the package's elements on a project's own pages: ``{% load user_tasks %}``."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import access
from ..models import UserTaskStatus
from ..pages import selection
from ..pages.presentation import Task

register = template.Library()


@register.simple_tag
def user_tasks_assets() -> SafeString:
    """Place the style sheet and the script in a page's head; both are files, so a strict policy lets them in."""
    return format_html(
        '<link rel="stylesheet" href="{}"><script type="module" src="{}"></script>',
        static("user_tasks/user_tasks.css"),
        static("user_tasks/user_tasks.js"),
    )


@register.inclusion_tag("user_tasks/tags/task.html", takes_context=True)
def user_task(context: Any, status: UserTaskStatus | None) -> dict[str, Any]:
    """Place a task's progress, which moves; nothing where the page's reader may not see the task."""
    user = getattr(context.get("request"), "user", None)
    if status is None or user is None or not access.allows(user, "view", status):
        return {}
    return {"task": Task(status, user, timezone.now())}


@register.inclusion_tag("user_tasks/tags/tray.html", takes_context=True)
def user_tasks_tray(context: Any) -> dict[str, Any]:
    """Place the tray of the reader's running and just finished tasks; nothing where nobody is logged in."""
    request = context.get("request")
    # A page of errors may have none, or one whose user nobody has looked for.
    if not hasattr(request, "user") or not access.allows(request.user, "view", UserTaskStatus):
        return {}
    return selection.tray(request) | {"is_shown": True}
