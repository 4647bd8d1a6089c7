"""What the project has set since 4.x; Celery's settings have their old names."""

from __future__ import annotations

from datetime import timedelta

from .settings import *  # noqa: F403 - what settings for development do
from .settings import BASE_DIR, DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "rules.apps.AutodiscoverRulesConfig", "user_tasks", "shop"]
AUTHENTICATION_BACKENDS = (
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.ModelBackend",
)
DATABASES = {
    "default": {**DATABASES["default"], "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20}},
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
REST_FRAMEWORK = {
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 10,
}

MEDIA_ROOT = str(BASE_DIR / "media")
MEDIA_URL = "/media/"

USER_TASKS_ARTIFACT_STORAGE = "shop.storage.ExportStorage"
USER_TASKS_MAX_AGE = timedelta(days=7)
USER_TASKS_STATUS_FILTERS = ("shop.filters.NamedStatusFilter",)

MESSAGES = BASE_DIR / "messages"
MESSAGES.mkdir(exist_ok=True)
BROKER_URL = "filesystem://"
BROKER_TRANSPORT_OPTIONS = {
    "control_folder": str(MESSAGES / "control"),
    "data_folder_in": str(MESSAGES),
    "data_folder_out": str(MESSAGES),
}
CELERY_TASK_SERIALIZER = "json"
CELERY_IGNORE_RESULT = True
