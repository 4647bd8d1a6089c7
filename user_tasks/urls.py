"""URLs of the API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from .views import ArtifactViewSet, StatusViewSet

ROUTER = SimpleRouter()
ROUTER.register("tasks", StatusViewSet, basename="usertaskstatus")
ROUTER.register("artifacts", ArtifactViewSet, basename="usertaskartifact")

urlpatterns = list(ROUTER.urls)
