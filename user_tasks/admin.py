"""The admin: what there is, to look at, to cancel and to delete; nothing can be edited that would make a status lie."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import current_app
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connections
from django.db.models import Q
from django.db.models.deletion import Collector
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from . import containers, downloads, estimates, losses, outages, removal, states
from .containers import CHAIN, CHORD, GROUP
from .models import UserTaskArtifact, UserTaskStatus
from .paginators import CappedPaginator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, QueryDict
    from django.http.response import HttpResponseBase

    from .querysets import UserTaskStatusQuerySet

DOWNLOAD = "user_tasks_usertaskartifact_download"

TEXT_SHOWN = 10_000
"""Characters of a text that an artifact's page shows."""

CONTENT_SHOWN = 80
"""Characters of an artifact's content that lists show."""

OUTPUTS_SHOWN = 20
"""Artifacts that stand on the page of their status."""

SELECTED_AT_ONCE = 500
"""Rows that are canceled at a time; all of a list may be selected."""

SELECTED_SHOWN = 20
"""Selected rows that are named before they are deleted; the others are counted."""

HOLDERS_SHOWN = 20
"""Objects named that keep a status from being deleted."""


class StateFilter(admin.SimpleListFilter):
    """Filters by the known states, without looking for those that are there."""

    title = _("state")
    parameter_name = "state"
    custom = "custom"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer each known state, and all others as one."""
        return [*states.TRANSLATIONS.items(), (self.custom, _("Custom state"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UserTaskStatus]) -> QuerySet[UserTaskStatus]:
        """Return the statuses in the chosen state."""
        if self.value() == self.custom:
            return queryset.filter(finished=None).exclude(state__in=states.TRANSLATIONS)
        return queryset.filter(state=self.value()) if self.value() else queryset


class ClassFilter(admin.SimpleListFilter):
    """Filters by the kinds of containers and the registered tasks, without looking for those that are there."""

    title = _("task class")
    parameter_name = "task_class"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer the classes by name."""
        tasks = sorted(name for name, task in current_app.tasks.items() if hasattr(task, "calculate_total_steps"))
        return [(name, name) for name in (CHAIN, GROUP, CHORD, *tasks)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UserTaskStatus]) -> QuerySet[UserTaskStatus]:
        """Return the statuses of the chosen class."""
        return queryset.filter(task_class=self.value()) if self.value() else queryset


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows rows to those whom a backend grants that expressly; owning some of them is not enough here."""

    ordering = ("-pk",)
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    paginator = CappedPaginator
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Only publishing a task makes rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What was recorded stays as it is."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Ask for the permission to view or to change."""
        return self._granted(request, "view") or self._granted(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Ask for the permission to delete."""
        return self._granted(request, "delete")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to cancel."""
        return self._granted(request, "cancel")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find what the whole term names, by look-ups in indexes."""
        term = search_term.strip()
        return (queryset.filter(self.named(term)) if term else queryset), False

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **options: Any) -> Any:
        """Do nothing with all of a list that has not been counted to its end."""
        if request.POST.get("select_across", "0") not in ("", "0") and self._is_capped(request, queryset):
            text = _("There are more than these. Search or filter for the others.")
            self.message_user(request, text, messages.WARNING)
            request.POST = _without_selection(request.POST)
        return super().response_action(request, queryset, *args, **options)

    def named(self, term: str) -> Q:
        """Return the condition for the rows that a search term names."""
        try:
            return Q(uuid=UUID(term))
        except ValueError:
            return Q(pk__in=())

    def _is_capped(self, request: HttpRequest, queryset: QuerySet[Any]) -> bool:
        return getattr(self.get_paginator(request, queryset, self.list_per_page), "is_capped", False)

    def _granted(self, request: HttpRequest, action: str) -> bool:
        permission = f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}"
        user: Any = request.user
        if not hasattr(user, "get_all_permissions"):
            return bool(user.has_perm(permission))
        return (user.is_active and user.is_superuser) or permission in user.get_all_permissions()


@admin.register(UserTaskStatus)
class UserTaskStatusAdmin(ReadOnlyAdmin):
    """Lists statuses, newest first; cancels and deletes them as the API does."""

    list_display = ("label", "user", "state_label", "progress", "attempts", "created", "modified")
    list_filter = (StateFilter, ClassFilter, "created")
    list_select_related = ("user",)
    search_fields = ("uuid", "task_id", "user")
    search_help_text = _("Beginning of a task ID; UUID or username, in full")
    raw_id_fields = ("user", "parent")
    actions = ("cancel_selected", "fail_selected")
    fields = readonly_fields = (
        "uuid",
        "task_id",
        "task_class",
        "name",
        "user",
        "parent",
        "is_container",
        "state_label",
        "progress",
        "completed_steps",
        "total_steps",
        "attempts",
        "created",
        "modified",
        "due",
        "started",
        "finished",
        "heartbeat",
        "members",
        "artifacts",
    )

    class Media:
        css = {"all": ["user_tasks/admin.css"]}

    def get_fields(self, request: HttpRequest, obj: UserTaskStatus | None = None) -> list[Any]:
        """Leave the artifacts out for those who may not look at them in their own list."""
        fields = list(super().get_fields(request, obj))
        return fields if self._shows_artifacts(request) else [field for field in fields if field != "artifacts"]

    def has_fail_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to change."""
        return self._granted(request, "change")

    def named(self, term: str) -> Q:
        """Find a status by its UUID, those whose task ID begins so, and all statuses of a user."""
        users = get_user_model()._default_manager.values_list("pk", flat=True)
        try:
            found = list(users.filter(**{get_user_model().USERNAME_FIELD: term}))
        except (ValueError, ValidationError):
            found = []
        # Each as the database can look it up in its index.
        beginning = "istartswith" if connections[UserTaskStatus.objects.db].vendor == "mysql" else "startswith"
        return super().named(term) | Q(**{f"task_id__{beginning}": term}) | Q(user__in=found)

    @admin.display(description=_("name"))
    def label(self, status: UserTaskStatus) -> str:
        """The name, or what stands for it."""
        return status.name or status.task_class or status.task_id

    @admin.display(description=_("state"))
    def state_label(self, status: UserTaskStatus) -> str:
        """The state in the active language, in a color of its own."""
        return format_html('<span class="ut-label" data-state="{}">{}</span>', status.state, status.state_text)

    @admin.display(description=_("progress"))
    def progress(self, status: UserTaskStatus) -> str:
        """How much is done, as a bar and in percent."""
        percent = estimates.percent(status.state, status.completed_steps, status.total_steps)
        return format_html(
            '<progress class="ut-meter" max="100" value="{}" aria-label="{}"></progress> {} %',
            percent,
            _("Progress of %(name)s") % {"name": self.label(status)},
            percent,
        )

    @admin.display(description=_("members"))
    def members(self, status: UserTaskStatus) -> str:
        """A link to what is in a container."""
        return self._link(UserTaskStatus, "parent", status) if status.is_container else self.get_empty_value_display()

    @admin.display(description=_("artifacts"))
    def artifacts(self, status: UserTaskStatus) -> str:
        """The first outputs, the texts of them cut, and a link to all."""
        first = UserTaskArtifact.objects.with_text_start(CONTENT_SHOWN).filter(status=status).order_by("pk")
        shown = format_html_join(
            "",
            '<li><a href="{}">{}</a>: {}</li>',
            (
                (self._address(UserTaskArtifact, "change", artifact.pk), artifact.name, _content(artifact))
                for artifact in first[:OUTPUTS_SHOWN]
            ),
        )
        return format_html('<ul class="ut-outputs">{}</ul>{}', shown, self._link(UserTaskArtifact, "status", status))

    @admin.action(permissions=["cancel"], description=_("Cancel selected %(verbose_name_plural)s"))
    def cancel_selected(self, request: HttpRequest, queryset: UserTaskStatusQuerySet) -> None:
        """Cancel what is unfinished."""
        selected = list(queryset.not_final().values_list("pk", flat=True))
        canceled = 0
        for start in range(0, len(selected), SELECTED_AT_ONCE):
            keys = selected[start : start + SELECTED_AT_ONCE]
            statuses = UserTaskStatus.objects.at_home().filter(pk__in=keys)
            containers.cancel_all(statuses)
            canceled += statuses.filter(state=UserTaskStatus.CANCELED).count()
        text = ngettext("%(count)d task canceled.", "%(count)d tasks canceled.", canceled)
        self.message_user(request, text % {"count": canceled})

    @admin.action(permissions=["fail"], description=_("Give up selected %(verbose_name_plural)s as lost"))
    def fail_selected(self, request: HttpRequest, queryset: UserTaskStatusQuerySet) -> None:
        """Fail tasks that their workers have lost; one whose worker shows life again is put back."""
        count = losses.give_up(queryset)
        text = ngettext("%(count)d task was given up.", "%(count)d tasks were given up.", count)
        self.message_user(request, text % {"count": count})

    def delete_model(self, request: HttpRequest, obj: UserTaskStatus) -> None:
        """Cancel and delete a status."""
        removal.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel and delete statuses."""
        removal.delete_all(queryset)

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count what would go, which may be many rows, name the first of them, and what keeps them from going."""
        statuses = list(objs)
        counts, holders = _consequences(statuses)
        names = [str(status) for status in statuses[:SELECTED_SHOWN]]
        return [*names, *["…"][: len(statuses) - len(names)]], counts, set(), holders

    def _shows_artifacts(self, request: HttpRequest) -> bool:
        site = self.admin_site
        if not site.is_registered(UserTaskArtifact):
            return False
        return site.get_model_admin(UserTaskArtifact).has_view_permission(request)

    def _link(self, model: type[Model], field: str, status: UserTaskStatus) -> str:
        address = self._address(model, "changelist")
        return format_html('<a href="{}?{}__id__exact={}">{}</a>', address, field, status.pk, _("Show"))

    def _address(self, model: type[Model], page: str, *args: Any) -> str:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name)


@admin.register(UserTaskArtifact)
class UserTaskArtifactAdmin(ReadOnlyAdmin):
    """Lists artifacts, newest first; no more than the beginning of a text is read."""

    list_display = ("label", "status", "content", "created", "modified")
    list_filter = ("created",)
    list_select_related = ("status",)
    search_fields = ("uuid", "status__task_id")
    search_help_text = _("UUID of the artifact, or task ID, in full")
    raw_id_fields = ("status",)
    actions = None
    fields = readonly_fields = ("uuid", "status", "name", "stored_file", "url", "beginning", "created", "modified")

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserTaskArtifact]:
        """Leave the texts where they are."""
        return UserTaskArtifact.objects.with_text_start(TEXT_SHOWN)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the artifact with the beginning of its text in place of it, lest `str()` reads the whole."""
        artifact = super().get_object(request, object_id, from_field)
        if artifact is not None:
            artifact.text = artifact.text_start
        return artifact

    def named(self, term: str) -> Q:
        """Find an artifact by its UUID, and all artifacts of a task by its ID."""
        statuses = UserTaskStatus.objects.filter(task_id=term)
        return super().named(term) | Q(status__in=list(statuses.values_list("pk", flat=True)))

    @admin.display(description=_("name"))
    def label(self, artifact: UserTaskArtifact) -> str:
        """The name, or what stands for it."""
        return artifact.name or str(artifact.uuid)

    @admin.display(description=_("content"))
    def content(self, artifact: Any) -> str:
        """The file's name, the address or the beginning of the text."""
        return _content(artifact)

    def get_urls(self) -> list[Any]:
        """Add the downloads, for those who may look at everybody's artifacts."""
        download = path("<int:pk>/download/", self.admin_site.admin_view(self.download), name=DOWNLOAD)
        return [download, *super().get_urls()]

    @method_decorator(require_safe)
    def download(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """Send the file of an artifact."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return downloads.respond(request, get_object_or_404(UserTaskArtifact, pk=pk))
        except downloads.GoneError as error:
            return downloads.gone(str(error))

    @admin.display(description=_("file"))
    def stored_file(self, artifact: UserTaskArtifact) -> str:
        """A link to the file."""
        if not artifact.file:
            return downloads.gone_text(artifact) if artifact.expired else ""
        address = reverse(f"admin:{DOWNLOAD}", args=[artifact.pk], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', address, artifact.file.name)

    @admin.display(description=_("text"))
    def beginning(self, artifact: Any) -> str:
        """The beginning of the text."""
        cut = artifact.text_length > TEXT_SHOWN
        return f"{artifact.text_start}…" if cut else artifact.text_start


def _without_selection(data: QueryDict) -> Any:
    """Return the data of a form with nothing selected, which Django says, and that nothing has changed."""
    left = data.copy()
    left["select_across"] = "0"
    left.setlist(ACTION_CHECKBOX_NAME, [])
    return left


def _content(artifact: Any) -> str:
    return Truncator(artifact.file.name or artifact.url or artifact.text_start).chars(CONTENT_SHOWN)


def _consequences(statuses: list[UserTaskStatus]) -> tuple[dict[str, int], list[str]]:
    collector = Collector(using=outages.home())
    try:
        collector.collect(statuses)
    except removal.HELD as error:
        return {}, [str(holder) for holder in list(error.args[1])[:HOLDERS_SHOWN]]
    return dict(_counts(collector)), []


def _counts(collector: Collector) -> Counter[str]:
    counts: Counter[str] = Counter()
    for model, instances in collector.data.items():
        counts[str(model._meta.verbose_name_plural)] += len(instances)
    for queryset in collector.fast_deletes:
        counts[str(queryset.model._meta.verbose_name_plural)] += queryset.count()
    return +counts
