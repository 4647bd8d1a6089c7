"""URLs of the demo."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from django.views.static import serve
from drf_spectacular.views import SpectacularAPIView

urlpatterns = [
    path("", include("jobs.urls")),
    path("tasks/", include("user_tasks.pages.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/", include("user_tasks.urls")),
    path("media/<path:path>", login_required(serve), {"document_root": settings.MEDIA_ROOT}),
]
