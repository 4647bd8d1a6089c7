"""The API: what users see of their tasks, and what they may do with them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import quote_etag
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.mixins import DestroyModelMixin, ListModelMixin
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import DjangoObjectPermissions
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.status import HTTP_201_CREATED, HTTP_409_CONFLICT, HTTP_410_GONE
from rest_framework.viewsets import GenericViewSet

from . import __version__, downloads, removal, searching, states
from .conf import settings
from .models import UserTaskArtifact, UserTaskStatus
from .openapi import DescribedSchema
from .pagination import LinkPagination
from .querysets import UserTaskArtifactQuerySet, UserTaskStatusQuerySet
from .serializers import ArtifactSerializer, StatusSerializer, prefetch_artifact_links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from django.db.models import Model
    from django.http import HttpResponseBase
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer
    from rest_framework.views import APIView

    Method = TypeVar("Method")

    # To type checkers, both are what subclasses make of them: plain attributes and methods.
    def classproperty(getter: Callable[[Any], Any]) -> Any:
        """Return a property of the class."""

    def action(**options: Any) -> Callable[[Method], Method]:
        """Return a decorator for methods with a URL of their own."""

else:
    from django.utils.functional import classproperty
    from rest_framework.decorators import action


class DjangoObjectPermissionsIncludingView(DjangoObjectPermissions):
    """Asks for the permission to view, too; POST is to cancel. A method that the view lacks is told as such first."""

    perms_map = {
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
        "OPTIONS": [],
        "POST": ["%(app_label)s.cancel_%(model_name)s"],
        "PUT": ["%(app_label)s.change_%(model_name)s"],
        "PATCH": ["%(app_label)s.change_%(model_name)s"],
        "DELETE": ["%(app_label)s.delete_%(model_name)s"],
    }

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Tell whether the user may do this to any object at all; an anonymous user may do nothing."""
        authenticated = request.user is not None and request.user.is_authenticated
        if authenticated and request.method not in view.allowed_methods:
            raise MethodNotAllowed(str(request.method))
        return super().has_permission(request, view)


class AnyNegotiation(DefaultContentNegotiation):
    """Takes no notice of what a client accepts: a file is what it is. Errors are told in the first way there is."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """Return the first renderer and its content type."""
        return renderers[0], renderers[0].media_type


class UserTasksViewSet(ListModelMixin, GenericViewSet[Any]):
    """Lists and details, of which clients may keep copies that they ask about at each use."""

    lookup_field = "uuid"
    permission_classes: Sequence[Any] = (DjangoObjectPermissionsIncludingView,)
    schema = DescribedSchema()

    @classproperty
    def pagination_class(cls) -> Any:  # noqa: N805 - a property of the class, so that subclasses may just set theirs
        """The project's own pagination, else ours."""
        return api_settings.DEFAULT_PAGINATION_CLASS or LinkPagination

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Show one object, or tell that the client's copy is still right."""
        instance = self.get_object()
        etag = self.get_etag(instance)
        response: HttpResponseBase | None = get_conditional_response(request, etag) if etag else None
        if response is None:
            response = Response(self.get_serializer(instance).data)
        for name, value in {"ETag": etag, **self.get_detail_headers(instance)}.items():
            if value:
                response.headers[name] = value
        return response

    def get_etag(self, instance: Any) -> str | None:
        """Return the tag of what `retrieve` shows, or None where more may be shown than the tag covers.

        That is so in a subclass, and in the browsable API, which shows the user's name and forms.
        """
        if isinstance(self.request.accepted_renderer, BrowsableAPIRenderer):
            return None
        known_view = type(self).retrieve is UserTasksViewSet.retrieve
        known_serializer = self.get_serializer_class() in (StatusSerializer, ArtifactSerializer)
        version = self.get_version(instance) if known_view and known_serializer else None
        if version is None:
            return None
        surroundings = (
            __version__,
            self.request.build_absolute_uri(),
            self.request.accepted_renderer.format,
            get_language(),
            get_current_timezone_name(),
        )
        return quote_etag(sha256(repr((surroundings, version)).encode()).hexdigest())

    def get_version(self, instance: Any) -> list[str] | None:
        """Return all that the answer depends on, but for the request, or None where that cannot be told."""

    def get_detail_headers(self, instance: Any) -> dict[str, str]:
        """Return headers for the answer that shows one object."""
        return {}

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep the answer out of shared caches, and let private ones ask before they use it."""
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(response, private=True, no_cache=True)
        patch_vary_headers(response, ("Accept-Language", "Cookie"))
        return response


class StatusViewSet(DestroyModelMixin, UserTasksViewSet):
    """Statuses of the tasks that users triggered."""

    queryset = UserTaskStatus.objects.order_by("-created", "-pk")
    cancel_status_code: int = HTTP_201_CREATED
    """What `cancel` answers with; 4.x did with 200."""

    retry_after = 2
    """Seconds that clients are asked to wait before they look at an unfinished status again."""

    @classproperty
    def serializer_class(cls) -> Any:  # noqa: N805 - see pagination_class
        """What the settings name."""
        return settings.USER_TASKS_STATUS_SERIALIZER

    @classproperty
    def filter_backends(cls) -> Any:  # noqa: N805 - see pagination_class
        """What the settings name, and searching where the project can."""
        return (*settings.USER_TASKS_STATUS_FILTERS, *searching.backends())

    def filter_queryset(self, queryset: Any) -> Any:
        """Return what the request may be shown; for one status, with the version of its artifacts."""
        queryset = super().filter_queryset(queryset)
        shows_one = getattr(self, "action", None) == "retrieve"
        return UserTaskStatusQuerySet.with_artifact_version(queryset) if shows_one else queryset

    def get_serializer(self, *args: Any, **kwargs: Any) -> BaseSerializer[Any]:
        """Return the serializer, the artifacts' URLs of all its statuses read at once."""
        serializer = super().get_serializer(*args, **kwargs)
        prefetch_artifact_links(serializer)
        return serializer

    def get_version(self, instance: Any) -> list[str] | None:
        """Return what changes with the row or its artifacts, or None where `get_object` did not read these."""
        if not hasattr(instance, "artifact_version"):
            return None
        return [*_row(instance), str(instance.artifact_version)]

    def get_detail_headers(self, instance: Any) -> dict[str, str]:
        """Return when to ask again about an unfinished status."""
        return {} if states.is_final(instance.state) else {"Retry-After": str(self.retry_after)}

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Cancel a task, or a container with all its members; a finished one is left as it is."""
        status = self.get_object()
        status.cancel()
        return Response(self.get_serializer(status).data, status=self.cancel_status_code)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a status with its artifacts; an unfinished task is canceled first."""
        try:
            return super().destroy(request, *args, **kwargs)
        except removal.HELD as error:
            return Response({"detail": _held_by(error.args[1])}, status=HTTP_409_CONFLICT)

    def perform_destroy(self, instance: UserTaskStatus) -> None:
        """Cancel and delete a status."""
        removal.delete(instance)


class ArtifactViewSet(UserTasksViewSet):
    """Outputs of the tasks that users triggered."""

    queryset = UserTaskArtifact.objects.select_related("status").order_by("-created", "-pk")

    @classproperty
    def serializer_class(cls) -> Any:  # noqa: N805 - see pagination_class
        """What the settings name."""
        return settings.USER_TASKS_ARTIFACT_SERIALIZER

    @classproperty
    def filter_backends(cls) -> Any:  # noqa: N805 - see pagination_class
        """What the settings name."""
        return settings.USER_TASKS_ARTIFACT_FILTERS

    def filter_queryset(self, queryset: Any) -> Any:
        """Return what the request may be shown, with as much as its serializer takes."""
        queryset = super().filter_queryset(queryset)
        reads_containers = getattr(self.get_serializer_class(), "reads_containers", False)
        return UserTaskArtifactQuerySet.with_containers(queryset) if reads_containers else queryset

    @action(detail=True, methods=["get"], content_negotiation_class=AnyNegotiation, pagination_class=None)
    def download(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Send the file, or else the text; a storage that signs URLs is redirected to."""
        try:
            return downloads.respond(request._request, self.get_object())
        except downloads.GoneError as error:
            return Response({"detail": str(error)}, status=HTTP_410_GONE)

    @action(
        detail=False,
        methods=["get"],
        url_path="shared/(?P<token>[^/]+)",
        authentication_classes=(),
        permission_classes=(),
        filter_backends=(),
        content_negotiation_class=AnyNegotiation,
        pagination_class=None,
    )
    def shared(self, request: Request, token: str, **kwargs: Any) -> HttpResponseBase:
        """Send the file, or else the text, to whoever has a link that has been signed."""
        return downloads.shared(request._request, token)

    def get_version(self, instance: UserTaskArtifact) -> list[str] | None:
        """Return what changes with the row or the file's URL, or None where that is signed and expires."""
        url = instance.file_url
        return None if urlsplit(url).query else [*_row(instance), url]


def _row(instance: Model) -> list[str]:
    return [str(field.value_from_object(instance)) for field in instance._meta.concrete_fields]


def _held_by(rows: Iterable[Model]) -> str:
    """Tell which kinds of rows hold a status."""
    holders = sorted({str(row._meta.verbose_name_plural) for row in rows})
    if not holders:
        return _("It cannot be deleted, because other data refers to it.")
    return _("It cannot be deleted, because these refer to it: %(holders)s.") % {"holders": ", ".join(holders)}
