"""Parts of pages, fetched again and again by those who watch: mostly answered with 304."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import quote_etag
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from .. import __version__

PARAMETER = "fragment"
"""The part of its query by which a page's URL asks for a fragment of it."""


def asked_for(request: HttpRequest) -> str:
    """Return which fragment a request is for; empty where it is for a whole page."""
    return request.GET.get(PARAMETER, "")


def respond(request: HttpRequest, template: str, version: Any, context: Callable[[], dict[str, Any]]) -> HttpResponse:
    """Answer with a fragment, or that the copy which the client has is still right.

    `version` is all that the fragment depends on, but for the request; `context` is called only to render it.
    """
    surroundings = (__version__, request.get_full_path(), request.user.pk, get_language(), get_current_timezone_name())
    etag = quote_etag(sha256(repr((surroundings, version)).encode()).hexdigest())
    response: Any = get_conditional_response(request, etag)
    if response is None:
        response = render(request, template, context())
    response.headers["ETag"] = etag
    answer: HttpResponse = response
    return answer


def private(response: HttpResponseBase) -> HttpResponseBase:
    """Keep an answer out of shared caches, and let private ones ask before they use it."""
    patch_cache_control(response, private=True, no_cache=True)
    patch_vary_headers(response, ("Accept-Language", "Cookie"))
    return response
