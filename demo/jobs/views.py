"""The page that starts jobs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from user_tasks.models import UserTaskStatus

from .catalogue import JOBS
from .forms import UploadForm

RECENT = 10


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Show what can be started, and what the user started last."""
    return _index(request, UploadForm())


@login_required
@require_POST
def start(request: HttpRequest, slug: str) -> HttpResponse:
    """Start a job, and show its status."""
    if slug not in JOBS:
        raise Http404(f"There is no job {slug!r}.")
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return _index(request, form, status=400)
    started = JOBS[slug].start(request.user.pk, form.cleaned_data["file"])
    return redirect("user_tasks:status", started.uuid)


def _index(request: HttpRequest, form: UploadForm, status: int = 200) -> HttpResponse:
    recent = UserTaskStatus.objects.filter(user=request.user.pk, parent=None).order_by("-created")[:RECENT]
    context = {"jobs": JOBS.values(), "form": form, "recent": recent}
    return render(request, "jobs/index.html", context, status=status)
