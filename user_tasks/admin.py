"""The admin: what there is, to look at, to cancel and to delete; nothing can be edited that would make a status lie."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.db.models.deletion import Collector
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from . import removal, states
from .models import UserTaskArtifact, UserTaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import Model, QuerySet
    from django.http import HttpRequest

    from .querysets import UserTaskStatusQuerySet

TEXT_SHOWN = 10_000
"""Characters of a text that an artifact's page shows."""

CONTENT_SHOWN = 80
"""Characters of an artifact's content that lists show."""

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
            return queryset.exclude(state__in=states.TRANSLATIONS)
        return queryset.filter(state=self.value()) if self.value() else queryset


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows rows to those whom a backend grants that expressly; owning some of them is not enough here."""

    ordering = ("-pk",)
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
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

    def named(self, term: str) -> Q:
        """Return the condition for the rows that a search term names."""
        try:
            return Q(uuid=UUID(term))
        except ValueError:
            return Q(pk__in=())

    def _granted(self, request: HttpRequest, action: str) -> bool:
        permission = f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}"
        user: Any = request.user
        if not hasattr(user, "get_all_permissions"):
            return bool(user.has_perm(permission))
        return (user.is_active and user.is_superuser) or permission in user.get_all_permissions()


@admin.register(UserTaskStatus)
class UserTaskStatusAdmin(ReadOnlyAdmin):
    """Lists statuses, newest first; cancels and deletes them as the API does."""

    list_display = ("label", "user", "state_text", "completed_steps", "total_steps", "attempts", "created", "modified")
    list_filter = (StateFilter, "is_container", "created")
    list_select_related = ("user",)
    search_fields = ("uuid", "task_id", "user")
    search_help_text = _("Task ID, UUID or username, in full")
    raw_id_fields = ("user", "parent")
    actions = ("cancel_selected",)
    fields = readonly_fields = (
        "uuid",
        "task_id",
        "task_class",
        "name",
        "user",
        "parent",
        "is_container",
        "state_text",
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

    def named(self, term: str) -> Q:
        """Find a status by its UUID or task ID, and all statuses of a user."""
        users = get_user_model()._default_manager.values_list("pk", flat=True)
        try:
            found = list(users.filter(**{get_user_model().USERNAME_FIELD: term}))
        except (ValueError, ValidationError):
            found = []
        return super().named(term) | Q(task_id=term) | Q(user__in=found)

    @admin.display(description=_("name"))
    def label(self, status: UserTaskStatus) -> str:
        """The name, or what stands for it."""
        return status.name or status.task_class or status.task_id

    @admin.display(description=_("state"))
    def state_text(self, status: UserTaskStatus) -> str:
        """The state in the active language."""
        return status.state_text

    @admin.display(description=_("members"))
    def members(self, status: UserTaskStatus) -> str:
        """A link to what is in a container."""
        return self._link(UserTaskStatus, "parent", status) if status.is_container else self.get_empty_value_display()

    @admin.display(description=_("artifacts"))
    def artifacts(self, status: UserTaskStatus) -> str:
        """A link to the outputs."""
        return self._link(UserTaskArtifact, "status", status)

    @admin.action(permissions=["cancel"], description=_("Cancel selected %(verbose_name_plural)s"))
    def cancel_selected(self, request: HttpRequest, queryset: UserTaskStatusQuerySet) -> None:
        """Cancel what is unfinished."""
        canceled = 0
        for status in queryset.not_final():
            status.cancel()
            canceled += status.state == UserTaskStatus.CANCELED
        text = ngettext("%(count)d task canceled.", "%(count)d tasks canceled.", canceled)
        self.message_user(request, text % {"count": canceled})

    def delete_model(self, request: HttpRequest, obj: UserTaskStatus) -> None:
        """Cancel and delete a status."""
        removal.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserTaskStatus]) -> None:
        """Cancel and delete statuses; some may be gone with their containers by then."""
        for status in queryset:
            if UserTaskStatus.objects.filter(pk=status.pk).exists():
                removal.delete(status)

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count what would go along, which may be many rows, and name what keeps it from going."""
        counts, holders = _consequences(objs)
        return [str(status) for status in objs], counts, set(), holders

    def _link(self, model: type[Model], field: str, status: UserTaskStatus) -> str:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        address = reverse(name, current_app=self.admin_site.name)
        return format_html('<a href="{}?{}__id__exact={}">{}</a>', address, field, status.pk, _("Show"))


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
        content = artifact.file.name or artifact.url or artifact.text_start
        return Truncator(content).chars(CONTENT_SHOWN)

    @admin.display(description=_("file"))
    def stored_file(self, artifact: UserTaskArtifact) -> str:
        """A link to the file, if its storage has one."""
        name, url = artifact.file.name or "", artifact.file_url
        return format_html('<a href="{}">{}</a>', url, name) if url else name

    @admin.display(description=_("text"))
    def beginning(self, artifact: Any) -> str:
        """The beginning of the text."""
        cut = artifact.text_length > TEXT_SHOWN
        return f"{artifact.text_start}…" if cut else artifact.text_start


def _consequences(statuses: Iterable[UserTaskStatus]) -> tuple[dict[str, int], list[str]]:
    collector = Collector(using=UserTaskStatus.objects.db)
    try:
        collector.collect(list(statuses))
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
