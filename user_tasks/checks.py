"""Checks of the project's settings: ``manage.py check``, and for deployments ``manage.py check --deploy``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from celery import current_app
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_backends
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's name for it
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import Storage
from django.db import DatabaseError
from django.urls import get_script_prefix
from django.utils.module_loading import import_string

from . import rules
from .conf import ARTIFACT_STORAGE_ALIAS, Defaults, artifact_storage, settings
from .content_types import INLINE
from .documentation import see_check

FAIL_LOST = "user_tasks.tasks.fail_lost_user_tasks"

W001 = Warning(
    "No beat schedule finds lost tasks: the status of a task whose worker was killed stays In Progress.",
    hint=f'Let Celery\'s beat run "{FAIL_LOST}" every minute, or silence this where another scheduler calls '
    f'"manage.py fail_lost_user_tasks". {see_check("W001")}',
    id="user_tasks.W001",
)

W009 = Warning(
    "The files of artifacts are among the media, which web servers send to whoever knows an address.",
    hint='Give STORAGES["user_task_artifacts"] a "location" outside MEDIA_ROOT; the pages and the API send files from '
    "anywhere, after asking for permission. Silence this where the web server asks before it sends media. "
    + see_check("W009"),
    id="user_tasks.W009",
)


@register(deploy=True)
def check_lost_tasks_are_found(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where neither the settings' beat schedule nor that of django-celery-beat finds lost tasks."""
    return [] if FAIL_LOST in {*_scheduled_in_settings(), *_scheduled_in_database()} else [W001]


def _scheduled_in_settings() -> Iterator[str | None]:
    schedule = current_app.conf.beat_schedule
    for entry in schedule.values() if isinstance(schedule, Mapping) else ():
        yield entry.get("task") if isinstance(entry, Mapping) else getattr(entry, "task", None)


def _scheduled_in_database() -> list[str]:
    if not apps.is_installed("django_celery_beat"):
        return []
    try:
        tasks: Any = apps.get_app_config("django_celery_beat").get_model("PeriodicTask")._base_manager
        return list(tasks.filter(task=FAIL_LOST, enabled=True).values_list("task", flat=True))
    except DatabaseError:
        return []


BACKEND_LINE = '"rules.permissions.ObjectPermissionBackend"'

W003 = Warning(
    "No authentication backend knows permissions for single objects: every user but a superuser gets 403 for every"
    " task.",
    hint=f"Two lines are missing: {BACKEND_LINE}, in AUTHENTICATION_BACKENDS, and user_tasks.rules.add_rules() in the"
    f" ready() of an AppConfig. Another backend for objects will do as well. {see_check('W003')}",
    id="user_tasks.W003",
)

W004 = Warning(
    "The backend of rules is there, but no rule says who may view a task: every user but a superuser gets 403.",
    hint="Call user_tasks.rules.add_rules() in the ready() of an AppConfig, or rules.add_perm() for rules of your own:"
    f" user_tasks.view_usertaskstatus and the others. {see_check('W004')}",
    id="user_tasks.W004",
)


@register()
def check_permissions_for_objects(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where no authentication backend could let anybody view a single task."""
    return [] if any(map(_knows_objects, _backends())) else [W003]


@register()
def check_rules_are_registered(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where all depends on the backend of `rules`, and that knows no rule of ours."""
    backends = [backend for backend in _backends() if _knows_objects(backend)]
    by_rules = bool(backends) and all(map(rules.decides, backends))
    return [W004] if by_rules and not rules.has_rule("user_tasks.view_usertaskstatus") else []


def _backends() -> list[type]:
    try:
        return [type(backend) for backend in get_backends()]
    except (ImproperlyConfigured, ImportError, TypeError):
        return [object]  # Django itself says what is wrong with them


OBJECT_METHODS = (
    "has_perm",
    "get_all_permissions",
    "get_user_permissions",
    "get_group_permissions",
    "_get_permissions",
)
"""What a backend overrides that knows permissions for objects; Django's own give no permission for any."""


def _knows_objects(backend: type) -> bool:
    classes = [known for known in backend.__mro__ if not known.__module__.startswith("django.contrib.auth.")]
    return backend is object or any(name in vars(known) for known in classes for name in OBJECT_METHODS)


@register()
def check_storage_alias_is_spelled_right(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of an entry in ``STORAGES`` that was meant for artifacts, and is not found."""
    names = list(django_settings.STORAGES)
    similar = [] if ARTIFACT_STORAGE_ALIAS in names else get_close_matches(ARTIFACT_STORAGE_ALIAS, names, cutoff=0.8)
    return [
        Warning(
            f"STORAGES[{name!r}] is not used for artifacts.",
            hint=f"Name it {ARTIFACT_STORAGE_ALIAS!r}. {see_check('W005')}",
            id="user_tasks.W005",
        )
        for name in similar
    ]


@register()
def check_storage_class_is_there(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where the settings name for artifacts what is no class of storages."""
    name, path = _named_storage()
    if not isinstance(path, str):
        return []
    try:
        found = import_string(path)
    except ImportError as error:
        return [_no_storage(name, path, str(error))]
    is_storage = isinstance(found, type) and issubclass(found, Storage)
    return [] if is_storage else [_no_storage(name, path, f"it is {found!r}")]


def _named_storage() -> tuple[str, Any]:
    """Return the setting that names the class of the storage, and what it says."""
    entry = django_settings.STORAGES.get(ARTIFACT_STORAGE_ALIAS)
    if entry is None:
        return "USER_TASKS_ARTIFACT_STORAGE", getattr(django_settings, "USER_TASKS_ARTIFACT_STORAGE", None)
    return f'STORAGES["{ARTIFACT_STORAGE_ALIAS}"]["BACKEND"]', entry.get("BACKEND")


def _no_storage(name: str, path: str, reason: str) -> Warning:
    return Warning(
        f"{name} = {path!r} is no class of storages: {reason}.",
        hint='Give the dotted path of a class, such as "django.core.files.storage.FileSystemStorage".'
        f' STORAGES["{ARTIFACT_STORAGE_ALIAS}"] takes options too. {see_check("W006")}',
        id="user_tasks.W006",
    )


@register()
def check_types_of_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of each setting of ours whose value is none that is expected."""
    given = {name: getattr(django_settings, name) for name in _known_settings() if hasattr(django_settings, name)}
    wrong = {name: reason for name, value in given.items() if (reason := _what_is_wrong(name, value))}
    return [
        Warning(
            f"{name} = {given[name]!r}: {reason}.",
            hint=f"The default is {getattr(Defaults, name)!r}. {see_check('W007')}",
            id="user_tasks.W007",
        )
        for name, reason in wrong.items()
    ]


@register()
def check_names_of_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of settings whose names are nearly those of ours."""
    names = (name for name in dir(django_settings) if name.startswith("USER_TASK") and name not in _known_settings())
    return [
        Warning(
            f"{name} is no setting of user_tasks.",
            hint=f"Did you mean {similar[0]}? {see_check('W008')}",
            id="user_tasks.W008",
        )
        for name in names
        if (similar := get_close_matches(name, _known_settings(), n=1, cutoff=0.85))
    ]


def _known_settings() -> list[str]:
    return [name for name in vars(Defaults) if name.isupper()]


def _what_is_wrong(name: str, value: Any) -> str:
    """Return what is wrong with the value of a setting, judged by its type; nothing if it is right."""
    return MISTAKES[Defaults.__annotations__[name]](value)


def _wrong_list_of_classes(value: Any) -> str:
    return _wrong_classes(value) if isinstance(value, list | tuple) else "a list of classes is expected"


def _wrong_classes(values: Any) -> str:
    """Return what is wrong with the first of the values that is neither a class nor the dotted path of one."""
    for value in values:
        try:
            found = import_string(value) if isinstance(value, str) else value
        except ImportError as error:
            return str(error)
        if not isinstance(found, type):
            return "a class, or its dotted path, is expected"
    return ""


def _wrong_content_types(value: Any) -> str:
    if not isinstance(value, list | tuple | set | frozenset):
        return "a list of content types is expected"
    unknown = [kind for kind in value if not isinstance(kind, str) or kind not in INLINE]
    return f"{unknown[0]!r} is none of {', '.join(sorted(INLINE))}" if unknown else ""


def _wrong_seconds(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return "" if is_number else "a number of seconds is expected, 0 or more"


MISTAKES: dict[str, Callable[[Any], str]] = {
    "Any": lambda value: _wrong_classes([value]),
    "bool": lambda value: "" if isinstance(value, bool) else "True or False is expected",
    "float": _wrong_seconds,
    "list[str]": _wrong_content_types,
    "str | None": lambda value: "" if isinstance(value, str | None) else "a dotted path is expected",
    "timedelta": lambda value: "" if isinstance(value, timedelta) else "a datetime.timedelta is expected",
    "timedelta | None": lambda value: (
        "" if isinstance(value, timedelta | None) else "a datetime.timedelta, or None, is expected"
    ),
    "tuple[Any, ...]": _wrong_list_of_classes,
}
"""What tells the mistake in the value of a setting, by the annotation that the setting has among the `Defaults`."""


@register(Tags.security, deploy=True)
def check_files_are_private(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where anybody may read the files of artifacts: in the folder of the media, or by a public ACL.

    A storage that cannot be made is left to the other checks.
    """
    try:
        storage = artifact_storage()
        acl = str(getattr(storage, "default_acl", None))
        return [_public(acl)] if acl.startswith("public") else _among_media(storage)
    except Exception:  # noqa: BLE001 - storages raise errors of their own
        return []


def _public(acl: str) -> Warning:
    return Warning(
        f"The files of artifacts are stored with the access control {acl!r}, so that anybody may read them.",
        hint='Give STORAGES["user_task_artifacts"] "default_acl": "private"; the pages and the API ask for permission'
        f" before they send files. {see_check('W009')}",
        id="user_tasks.W009",
    )


def _among_media(storage: Storage) -> list[CheckMessage]:
    is_served = settings.MEDIA_ROOT and settings.MEDIA_URL not in (None, get_script_prefix())
    if not is_served:
        return []
    return [W009] if Path(storage.path("")).resolve().is_relative_to(Path(settings.MEDIA_ROOT).resolve()) else []
