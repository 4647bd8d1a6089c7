"""A project's site with the pages, under a strict policy of what its pages may load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import path

import test_urls
from user_tasks.models import UserTaskStatus

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

BUSY: list[int] = []
"""For how many seconds the site refuses fragments, if it does."""

OWN_PAGE = Template("""<!DOCTYPE html>{% load user_tasks %}
<html lang="en">
  <head>
    <meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark"><title>Shop</title>
    {% user_tasks_assets %}</head>
  <body>
    <header>{% user_tasks_tray %}</header>
    <main><h1>Shop</h1>{% for status in statuses %}{% user_task status %}{% endfor %}</main>
  </body>
</html>""")


def with_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Send the policy with each answer, and refuse fragments while the site is busy."""

    def middleware(request: HttpRequest) -> Any:
        is_refused = BUSY and "fragment" in request.GET
        response = HttpResponse(status=503) if is_refused else get_response(request)
        if is_refused:
            response.headers["Retry-After"] = str(BUSY[0])
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware


def own_page(request: HttpRequest) -> HttpResponse:
    """Show all tasks on a page of the project's own."""
    statuses = UserTaskStatus.objects.roots().order_by("pk")
    return HttpResponse(OWN_PAGE.render(RequestContext(request, {"statuses": statuses})))


urlpatterns = [path("shop/", own_page, name="shop"), *test_urls.urlpatterns]
