"""Sphinx's configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "test_settings")
django.setup()

from user_tasks import __version__  # noqa: E402 (after Django's set-up)

project = "django-user-tasks"
author = "The django-user-tasks contributors"
copyright = "The django-user-tasks contributors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinxcontrib.openapi"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"

# External links are not asked for: the build works without a network.
linkcheck_ignore = ["^https?://"]
