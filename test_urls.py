"""URLs of the tests: the API at the root, and the admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("my-tasks/", include("user_tasks.pages.urls")),
    path("", include("user_tasks.urls")),
]
