"""Settings of the demo, which listens on this computer only.

Without further ado it keeps everything in one folder: SQLite, messages and results as files. ``DATABASE_URL``,
``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND`` name servers instead, and ``DEMO_VAR`` another folder.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("DEMO_VAR", BASE_DIR / "var")).resolve()
MESSAGES = VAR / "messages"
RESULTS = VAR / "results"
for folder in (MESSAGES, RESULTS):
    folder.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("DEMO_DEBUG", "1") == "1"
SECRET_KEY = "only-for-the-demo"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "config.urls"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "drf_spectacular",
    "rest_framework",
    "rules",
    "user_tasks",
    "jobs",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

STATIC_URL = "static/"
MEDIA_ROOT = VAR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # Out of the folder of the media, so that no web server sends them to whoever knows their names.
    "user_task_artifacts": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": VAR / "artifacts"},
    },
}
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGES = [
    ("ar", "Arabic"),
    ("de", "German"),
    ("en", "English"),
    ("es", "Spanish"),
    ("fr", "French"),
    ("hi", "Hindi"),
    ("ja", "Japanese"),
    ("pt-br", "Brazilian Portuguese"),
    ("ru", "Russian"),
    ("zh-hans", "Simplified Chinese"),
]
LOCALE_PATHS = [BASE_DIR / "locale"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "index"
LOGOUT_REDIRECT_URL = "login"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {"TITLE": "Demo of Django User Tasks"}

DATABASES: dict[str, Any] = {"default": dj_database_url.config(default=f"sqlite:///{quote(str(VAR / 'demo.sqlite3'))}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The web server and the worker processes write at the same time.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
    }

USER_TASKS_STRICT_PUBLISH = True
USER_TASKS_ARTIFACT_SERIALIZER = "user_tasks.detailed.DetailedArtifactSerializer"
# A worker that is killed on the filesystem broker loses the messages that it had taken.
USER_TASKS_PENDING_LIMIT = timedelta(minutes=10)

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "filesystem://localhost")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "control_folder": str(VAR / "control"),
        "data_folder_in": str(MESSAGES),
        "data_folder_out": str(MESSAGES),
        "polling_interval": 0.1,
    }
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", f"file://{RESULTS}")
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("DEMO_QUEUE", "demo")
CELERY_TASK_IGNORE_RESULT = True
# What a worker had begun when the demo was stopped is begun anew by the next one.
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 2
CELERY_BEAT_SCHEDULE = {
    "find lost tasks": {"task": "user_tasks.tasks.fail_lost_user_tasks", "schedule": timedelta(minutes=1)},
    "remove old tasks": {"task": "user_tasks.tasks.purge_old_user_tasks", "schedule": timedelta(days=1)},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR / "beat-schedule")
