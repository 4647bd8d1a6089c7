"""The pages: my tasks, the status page of one, its parts, and what can be done about it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseForbidden
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View

from .. import access, downloads, removal
from ..models import UserTaskArtifact, UserTaskStatus
from ..paginators import InTurn
from ..querysets import UserTaskStatusQuerySet
from . import fragments, selection
from .forms import SearchForm
from .presentation import Task


class Page(LoginRequiredMixin, View):
    """A page of somebody who is logged in; a fragment of it is refused rather than redirected to the login page."""

    def handle_no_permission(self) -> Any:
        """Ask whoever looks at a page to log in."""
        return HttpResponseForbidden() if fragments.asked_for(self.request) else super().handle_no_permission()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, for this user alone."""
        response: Any = super().dispatch(request, *args, **kwargs)
        return fragments.private(response)


class TaskListView(Page):
    """The tasks that the user triggered, those that run before the others."""

    paginate_by = 25
    template_name = "user_tasks/task_list.html"

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        """Show a page of them, or the tray."""
        if not access.allows(request.user, "view", UserTaskStatus):
            raise PermissionDenied
        if fragments.asked_for(request) == "tray":
            return self._tray(request)
        return self._list(request)

    def _tray(self, request: HttpRequest) -> HttpResponse:
        context = selection.tray(request, self)
        version = [context["running"], *(task.version for task in context["tasks"])]
        return fragments.respond(request, "user_tasks/fragments/tray.html", version, lambda: context)

    def _list(self, request: HttpRequest) -> HttpResponse:
        everybodys = selection.visible(request, UserTaskStatus.objects.roots(), self)
        partial = bool(fragments.asked_for(request))
        form = SearchForm(request.GET, shared=partial or self._has_others(everybodys))
        everyone = form.asked.get("everyone", False)
        statuses = everybodys.select_related("user") if everyone else everybodys.filter(user=request.user.pk)
        context = {"form": form, "shows_owner": everyone}
        found = form.narrow(statuses)
        return respond_with_list(self, selection.running_first(found, found.not_live()), context)

    def _has_others(self, statuses: UserTaskStatusQuerySet) -> bool:
        """Tell whether anybody else's are among them: the first owner and the last are found by an index."""
        owners = [statuses.order_by(order).values_list("user", flat=True).first() for order in ("user_id", "-user_id")]
        return any(owner not in (None, self.request.user.pk) for owner in owners)


class PartsView(Page):
    """The members of a container, in their order."""

    paginate_by = 25
    template_name = "user_tasks/task_parts.html"

    def get(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        """Show a page of them."""
        task = selection.task_or_404(request, uuid, self)
        form = SearchForm(request.GET)
        members = selection.visible(request, UserTaskStatus.objects.filter(parent=task.status), self)
        context = {"form": form, "container": task, "shows_parts": True}
        return respond_with_list(self, form.narrow(members).order_by("pk"), context)


def respond_with_list(
    view: TaskListView | PartsView, statuses: UserTaskStatusQuerySet | InTurn, context: dict[str, Any]
) -> HttpResponse:
    """Answer with a page of a list, or with its fragment."""
    request = view.request
    page = selection.page_of(statuses, view.paginate_by, request.GET.get("page"))
    tasks = selection.shown(page.object_list, request.user)
    container: Task | None = context.get("container")
    is_live = any(task.is_live for task in (*tasks, *([container] if container else [])))
    context |= {"tasks": tasks, "page": page, "is_live": is_live, "path": request.path}
    if fragments.asked_for(request):
        version = [is_live, page.has_next(), [task.version for task in tasks]]
        return fragments.respond(request, "user_tasks/fragments/list.html", version, lambda: context)
    return render(request, view.template_name, context)


class StatusView(Page):
    """The status page of one task."""

    parts_unfolded = 20
    """Members up to which a container shows them without being asked to."""

    outputs_by = 50
    template_name = "user_tasks/task_status.html"

    def get(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        """Show the page, or one of its two fragments: the whole status, or a small card."""
        task = selection.task_or_404(request, uuid, self)
        fragment = fragments.asked_for(request)
        if not fragment:
            return render(request, self.template_name, self._context(task) | self._parts(task))
        version: Any = (
            *(task.version, task.can_cancel, task.can_delete, task.container and task.container.name),
            *selection.outputs_version(task.status),
        )
        if fragment == "card":
            return fragments.respond(request, "user_tasks/fragments/card.html", version, lambda: {"task": task})
        return fragments.respond(request, "user_tasks/fragments/status.html", version, lambda: self._context(task))

    def _context(self, task: Task) -> dict[str, Any]:
        request = self.request
        number = request.GET.get("artifacts")
        page = selection.outputs(request, task.status, self.outputs_by, number, self)
        return {
            "task": task,
            "outputs_page": page,
            "errors": [output for output in page.object_list if output.is_error],
            "outputs": [output for output in page.object_list if not output.is_error],
        }

    def _parts(self, task: Task) -> dict[str, Any]:
        if not task.status.is_container:
            return {}
        members = UserTaskStatus.objects.filter(parent=task.status).order_by("pk")
        found = selection.visible(self.request, members, self)[: self.parts_unfolded + 1]
        parts = selection.shown(found, self.request.user)
        return {"parts": parts, "parts_are_many": len(parts) > self.parts_unfolded}


class ConfirmedView(Page):
    """An action on a task: asked about on a page, done by its form."""

    action: str
    template_name: str

    def get(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        """Ask."""
        task = self._task(uuid)
        return self._refusal(task) or self._ask(task)

    def post(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        """Do it."""
        task = self._task(uuid)
        return self._refusal(task) or self.perform(task)

    def perform(self, task: Task) -> HttpResponse:
        """Do it, and tell where to go."""
        raise NotImplementedError

    def refuse(self, task: Task) -> str:
        """Return why it cannot be done at present; empty where it can."""
        raise NotImplementedError

    def _task(self, uuid: UUID) -> Task:
        task = selection.task_or_404(self.request, uuid, self)
        if not access.allows(self.request.user, self.action, task.status):
            raise PermissionDenied
        return task

    def _refusal(self, task: Task) -> HttpResponse | None:
        reason = self.refuse(task)
        if not reason:
            return None
        messages.info(self.request, reason, fail_silently=True)
        return redirect(task.url)

    def _ask(self, task: Task, error: str = "", code: int = 200) -> HttpResponse:
        return render(self.request, self.template_name, {"task": task, "error": error}, status=code)


class CancelView(ConfirmedView):
    """Cancels a task that is not finished."""

    action = "cancel"
    template_name = "user_tasks/confirm_cancel.html"

    def refuse(self, task: Task) -> str:
        """Return that it is finished, if it is."""
        return _("The task has finished: there is nothing left to cancel.") if task.is_final else ""

    def perform(self, task: Task) -> HttpResponse:
        """Cancel it, with all its parts."""
        task.status.cancel()
        messages.success(self.request, _("The task is canceled."), fail_silently=True)
        return redirect(task.url)


class DeleteView(ConfirmedView):
    """Deletes a finished task with its outputs."""

    action = "delete"
    template_name = "user_tasks/confirm_delete.html"

    def refuse(self, task: Task) -> str:
        """Return that it is not finished, or only a part, if so."""
        if not task.is_final:
            return _("The task has not finished. Cancel it before you delete it.")
        if task.status.parent_id is not None:
            return _("This is a part of another task and is deleted with that.")
        return ""

    def perform(self, task: Task) -> HttpResponse:
        """Delete it, unless something refers to it."""
        try:
            removal.delete(task.status)
        except removal.HELD:
            return self._ask(task, _("It cannot be deleted, because other data refers to it."), 409)
        messages.success(self.request, _("The task is deleted."), fail_silently=True)
        return redirect(reverse("user_tasks:list"))


def artifact_or_404(request: HttpRequest, uuid: UUID, view: Page) -> UserTaskArtifact:
    """Return an artifact that the user may see, of a task that the user may see."""
    artifacts: Any = UserTaskArtifact.objects.select_related("status")
    artifact = access.visible_artifacts(request, artifacts, view).filter(uuid=uuid).first()
    if artifact is None or not access.allows(request.user, "view", artifact):
        raise Http404
    selection.task_or_404(request, artifact.status.uuid, view)
    return artifact


class ArtifactTextView(Page):
    """The whole text of an artifact, however long."""

    def get(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        """Answer with plain text."""
        return HttpResponse(
            artifact_or_404(request, uuid, self).text,
            content_type="text/plain; charset=utf-8",
            headers={"X-Content-Type-Options": "nosniff"},
        )


class DownloadView(Page):
    """The file of an artifact."""

    def get(self, request: HttpRequest, uuid: UUID) -> HttpResponseBase:
        """Answer with the file, or that it is gone."""
        try:
            return downloads.respond(request, artifact_or_404(request, uuid, self))
        except downloads.GoneError as error:
            return downloads.gone(str(error))
