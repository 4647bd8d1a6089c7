from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from user_tasks.rules import add_rules

        from . import receivers  # noqa: F401 - they connect themselves

        add_rules()
