"""The URLs of the project."""

from __future__ import annotations

from django.urls import include, path

from shop import views

urlpatterns = [
    path("api/", include("user_tasks.urls")),
    path("tasks/", include("user_tasks.pages.urls")),
    path("start/", views.start),
]
