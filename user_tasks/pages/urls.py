"""URLs of the pages, for ``include("user_tasks.pages.urls")``."""

from __future__ import annotations

from django.urls import path

from ..downloads import shared
from .views import ArtifactTextView, CancelView, DeleteView, DownloadView, PartsView, StatusView, TaskListView

app_name = "user_tasks"

urlpatterns = [
    path("", TaskListView.as_view(), name="list"),
    path("<uuid:uuid>/", StatusView.as_view(), name="status"),
    path("<uuid:uuid>/parts/", PartsView.as_view(), name="parts"),
    path("<uuid:uuid>/cancel/", CancelView.as_view(), name="cancel"),
    path("<uuid:uuid>/delete/", DeleteView.as_view(), name="delete"),
    path("texts/<uuid:uuid>/", ArtifactTextView.as_view(), name="text"),
    path("files/<uuid:uuid>/", DownloadView.as_view(), name="download"),
    path("shared/<str:token>/", shared, name="shared"),
]
