from __future__ import annotations

from django.urls import include, path
from shop import views

from user_tasks.urls import ROUTER

ROUTER.register("exports", views.ExportStatusViewSet, basename="export")

urlpatterns = [
    path("api/", include(ROUTER.urls)),
    path("accounts/", include("rest_framework.urls")),
    path("start/", views.start),
    path("names/", views.names),
]
