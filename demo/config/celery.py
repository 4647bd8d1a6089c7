"""The Celery application of the demo."""

from __future__ import annotations

import os

from celery import Celery

import whole_messages

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

whole_messages.install()
app = Celery("demo")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
