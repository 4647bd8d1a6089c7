"""Settings of the site of `browser_site`, for a web server in a process of its own."""

from __future__ import annotations

from test_settings import *  # noqa: F403 - they are the tests' own, but for what follows
from test_settings import MIDDLEWARE

ALLOWED_HOSTS = ["localhost"]
MIDDLEWARE = ["browser_site.with_policy", *MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
ROOT_URLCONF = "browser_site"
