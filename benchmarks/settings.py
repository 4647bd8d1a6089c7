"""Settings of the benchmarks: those of the tests, with what the package is compared with.

``KEEP_CONNECTIONS`` keeps database connections from one task to the next, which neither Django nor Celery does unless
told to.
"""

from __future__ import annotations

import os

from test_settings import *  # noqa: F403 - they are the tests' own, but for what follows

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_results"]  # noqa: F405 - see above
CELERY_RESULT_BACKEND = "django-db"

if os.environ.get("KEEP_CONNECTIONS"):
    DATABASES["default"]["CONN_MAX_AGE"] = None  # noqa: F405 - see above
    CELERY_DB_REUSE_MAX = 1_000_000
ALLOWED_HOSTS = ["testserver"]
