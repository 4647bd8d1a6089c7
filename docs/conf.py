"""Sphinx's configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests"), str(DOCS)]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "test_settings")
django.setup()

from user_tasks import __version__  # noqa: E402 - needs Django to be set up

project = "django-user-tasks"
author = "The django-user-tasks contributors"
copyright = "The django-user-tasks contributors"
version = release = __version__

extensions = ["directives", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinxcontrib.openapi"]
exclude_patterns = ["_build", "performance_figures.rst"]
html_theme = "furo"
html_title = f"{project} {release}"
default_role = "py:obj"
add_module_names = False
autosummary_generate = False
openapi_default_renderer = "httpdomain"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

# External links are not asked for: the build works without a network.
linkcheck_ignore = ["^https?://"]
