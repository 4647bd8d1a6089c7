"""Settings of the tests; ``celery -A test_settings worker`` starts a worker on them.

Everything is embedded by default. ``DATABASE_URL``, ``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND`` name
servers instead. A broker of the form ``filesystem:///folder`` keeps its messages in that folder. ``MEDIA_ROOT``,
``CELERY_DEFAULT_QUEUE`` and ``CELERY_TASK_PROTOCOL`` are for the workers that tests start, as is any other setting in
the JSON of ``SETTINGS_OVERRIDES``.
"""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from celery import Celery

from demo import whole_messages
from user_tasks import __version__


def broker_options(url: str) -> dict[str, Any]:
    """Return the transport options for a broker: the folders of one on the filesystem."""
    if not url.startswith("filesystem:"):
        return {}
    folder = urlsplit(url).path
    messages = f"{folder}/messages"
    return {
        "control_folder": f"{folder}/control",
        "data_folder_in": messages,
        "data_folder_out": messages,
        "polling_interval": 0.05,
    }


BASE_DIR = Path(__file__).resolve().parent
MEDIA_DIR = TemporaryDirectory(prefix="user_tasks_media_")
RESULTS_DIR = TemporaryDirectory(prefix="user_tasks_results_")
DATABASE_DIR = TemporaryDirectory(prefix="user_tasks_database_")
for directory in (MEDIA_DIR, RESULTS_DIR, DATABASE_DIR):
    atexit.register(directory.cleanup)

SECRET_KEY = "only-for-tests"
ROOT_URLCONF = "test_urls"
STATIC_URL = "static/"
MEDIA_ROOT = os.environ.get("MEDIA_ROOT", MEDIA_DIR.name)
MEDIA_URL = "media/"
USE_TZ = True
# TIME_ZONE stays at Django's default, so that a time zone that is not UTC is tested too.

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
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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

AUTHENTICATION_BACKENDS = [
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# The tests that need rules set them, each for itself.
SILENCED_SYSTEM_CHECKS = ["user_tasks.W004"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {"OAS_VERSION": "3.1.1", "TITLE": "Django User Tasks", "VERSION": __version__}

DATABASES: dict[str, Any] = {"default": dj_database_url.config(default=f"sqlite:///{BASE_DIR / 'default.db'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, not memory: worker processes and live servers share it with the test that started them.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(DATABASE_DIR.name, "test.db"))}
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
    }

# The names are Celery's old ones on purpose: projects that bring their own suites override those.
BROKER_URL = os.environ.get("CELERY_BROKER_URL", "memory://localhost/")
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", f"file://{RESULTS_DIR.name}")
CELERY_IGNORE_RESULT = True
# A queue for each process of a parallel run, so that none takes the messages of another.
CELERY_DEFAULT_QUEUE = os.environ.get(
    "CELERY_DEFAULT_QUEUE", f"user_tasks_{os.environ.get('PYTEST_XDIST_WORKER', 'tests')}"
)
CELERY_TASK_PROTOCOL = int(os.environ.get("CELERY_TASK_PROTOCOL", "2"))
BROKER_TRANSPORT_OPTIONS = broker_options(BROKER_URL)

globals().update(json.loads(os.environ.get("SETTINGS_OVERRIDES", "{}")))

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "test_settings")
whole_messages.install()
app = Celery("user_tasks_tests")
app.config_from_object("django.conf:settings")
