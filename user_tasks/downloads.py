"""An artifact as the answer to a request, in memory that does not grow with it.

Who may have it has been decided before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from hashlib import sha256
from inspect import signature
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.core.files.base import ContentFile
from django.core.handlers.asgi import ASGIRequest
from django.core.signing import BadSignature
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.formats import date_format
from django.utils.http import content_disposition_header, http_date, quote_etag
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from . import content_types, file_names, lifetimes, links, ranges
from .conf import settings

if TYPE_CHECKING:
    from django.core.files.storage import Storage

    from .models import UserTaskArtifact

BLOCK = 256 * 1024
"""Bytes that are held of a file at one time."""

SIGNED_FOR = 300
"""Seconds for which a storage is asked to sign a URL that a request is redirected to."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""What keeps content from acting even if a browser shows it; of a PDF file it would keep the viewer from showing it."""


class GoneError(Exception):
    """The artifact had a file, which has been removed for its age; the message is for users."""


def respond(request: HttpRequest, artifact: UserTaskArtifact) -> HttpResponseBase:
    """Answer with the artifact's file, or else its text.

    Raises `Http404` where there is neither, and `GoneError` where its time is over.
    """
    name = artifact.file.name
    try:
        return _respond(request, artifact)
    except FileNotFoundError as error:
        with suppress(ObjectDoesNotExist, FileNotFoundError):
            artifact.refresh_from_db()
            # Replaced since the row was read.
            if artifact.file.name != name:
                return _respond(request, artifact)
        raise Http404(_("There is no file.")) from error


def _respond(request: HttpRequest, artifact: UserTaskArtifact) -> HttpResponseBase:
    """Do what `respond` does. Raises `FileNotFoundError` where the storage does not have the file."""
    if (artifact.file or artifact.expired) and lifetimes.is_over(artifact):
        raise GoneError(gone_text(artifact))
    if not artifact.file and not artifact.text:
        raise Http404(_("There is no file."))
    answer = _handed_over(request, artifact) if artifact.file else None
    return answer or _Answer(request, artifact).response()


@login_not_required
@require_safe
def shared(request: HttpRequest, token: str) -> HttpResponseBase:
    """Answer to whoever has a link that `UserTaskArtifact.signed_url` made."""
    from .models import UserTaskArtifact

    try:
        artifact = UserTaskArtifact.objects.select_related("status").filter(uuid=links.uuid_of(token)).first()
        if artifact is None:
            raise Http404(_("There is no file."))
        response = respond(request, artifact)
    except BadSignature as error:
        raise Http404(_("There is no file.")) from error
    except links.LinkExpiredError:
        response = gone(_("This link has expired."))
    except GoneError as error:
        response = gone(str(error))
    patch_cache_control(response, private=True, no_cache=True)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Robots-Tag"] = "noindex"
    return response


def gone(text: str) -> HttpResponse:
    """Return the answer that what was here is not here any more."""
    return HttpResponse(text, status=410, content_type="text/plain; charset=utf-8")


def gone_text(artifact: UserTaskArtifact) -> str:
    """Return what tells users since when a file is gone."""
    end = artifact.expired or lifetimes.end(artifact)
    day = date_format(localtime(end) if is_aware(end) else end, "DATE_FORMAT")
    return _("The file was kept until %(day)s.") % {"day": day}


def file_name(artifact: UserTaskArtifact) -> str:
    """Return the name that a download gets."""
    if artifact.file or artifact.file_name:
        return file_names.base_name(artifact.file_name or artifact.file.name)
    suffix = ".json" if content_types.essence(artifact.content_type) == content_types.JSON else ".txt"
    return file_names.shortened(file_names.of_title(artifact.name), 200).removesuffix(suffix) + suffix


def known_type(artifact: UserTaskArtifact) -> str:
    """Return the content type of the file, or else of the text; empty where there is neither."""
    if artifact.file or artifact.file_name:
        return artifact.content_type or content_types.guess(artifact.file.name)
    return artifact.content_type or (content_types.TEXT + content_types.UTF8 if artifact.text else "")


def content_type(artifact: UserTaskArtifact) -> str:
    """Return the content type that an answer may have."""
    return content_types.safe(known_type(artifact))


def _describe(response: HttpResponseBase, artifact: UserTaskArtifact) -> None:
    """Say what the content is, so that no browser makes anything else of it."""
    kind = content_type(artifact)
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = _disposition(artifact)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if content_types.essence(kind) != "application/pdf":
        response.headers["Content-Security-Policy"] = POLICY


def _disposition(artifact: UserTaskArtifact) -> str:
    kind = content_types.essence(content_type(artifact))
    inline = kind in content_types.INLINE and kind in settings.USER_TASKS_INLINE_TYPES
    return str(content_disposition_header(not inline, file_name(artifact)))


def _handed_over(request: HttpRequest, artifact: UserTaskArtifact) -> HttpResponseBase | None:
    """Return an answer that lets the storage, or the web server, send the file, where one of them can."""
    url = signed_storage_url(artifact, "HEAD" if request.method == "HEAD" else "GET")
    if url is not None:
        return HttpResponseRedirect(url, headers={"Referrer-Policy": "no-referrer"})
    return _sendfile(request, artifact) if settings.USER_TASKS_SENDFILE else None


def signed_storage_url(artifact: UserTaskArtifact, method: str) -> str | None:
    """Return a URL of the file that the storage has signed for some minutes, or None where it signs none."""
    storage, name = artifact.file.storage, str(artifact.file.name)
    try:
        url = str(storage.url(name))
        if not _is_signed(url):
            return None
        return str(storage.url(name, **_url_options(storage, artifact, method)))
    except (NotImplementedError, ValueError):
        return None


def _is_signed(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc and parts.query)


def _url_options(storage: Storage, artifact: UserTaskArtifact, method: str) -> dict[str, Any]:
    """Return what django-storages takes: the seconds, the method, and for S3 headers of the answer."""
    known = signature(storage.url).parameters
    options: dict[str, Any] = {"expire": SIGNED_FOR, "http_method": method}
    if "http_method" in known:
        options["parameters"] = {
            "ResponseContentDisposition": _disposition(artifact),
            "ResponseContentType": content_type(artifact),
        }
    return {name: value for name, value in options.items() if name in known}


def _sendfile(request: HttpRequest, artifact: UserTaskArtifact) -> HttpResponseBase | None:
    try:
        from django_sendfile import sendfile
    except ImportError as error:
        raise ImproperlyConfigured("USER_TASKS_SENDFILE needs django-sendfile2.") from error
    if not _has_path(artifact):
        return None
    response: HttpResponseBase = sendfile(request, artifact.file.path)
    # The library guesses an encoding from the name, which would have browsers unpack what is a download.
    del response.headers["Content-Encoding"]
    if not response.streaming:
        del response.headers["Content-Length"]
    _describe(response, artifact)
    return response


class _Answer:
    """The answer to one request, streamed from the storage."""

    def __init__(self, request: HttpRequest, artifact: UserTaskArtifact) -> None:
        self.request = request
        self.artifact = artifact
        self.text = b"" if artifact.file else artifact.text.encode()
        self.length = self._length()
        version = (artifact.uuid.hex, artifact.file.name or "", artifact.modified.isoformat(), self.length)
        self.etag = quote_etag(sha256(repr(version).encode()).hexdigest()[:32])
        self.modified = int(artifact.modified.timestamp())

    def response(self) -> HttpResponseBase:
        """Return the whole, a part of it, or nothing but the headers."""
        response: Any = get_conditional_response(self.request, self.etag, self.modified)
        if response is None:
            response = self._content()
            _describe(response, self.artifact)
        for name, value in self._validators():
            response.headers[name] = value
        answer: HttpResponseBase = response
        return answer

    def _validators(self) -> list[tuple[str, str]]:
        return [("Accept-Ranges", "bytes"), ("ETag", self.etag), ("Last-Modified", http_date(self.modified))]

    def _content(self) -> HttpResponseBase:
        if self.request.method == "HEAD":
            return HttpResponse(headers={"Content-Length": str(self.length)})
        try:
            part = self._part()
        except ranges.UnsatisfiableRangeError:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{self.length}"})
        response = self._whole() if part is None else self._streamed(part, 206)
        response.headers["Content-Length"] = str(self.length if part is None else len(part))
        if part is not None:
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{self.length}"
            # A middleware that compresses would make other bytes of these.
            response.headers["Content-Encoding"] = "identity"
        return response

    def _part(self) -> range | None:
        header = self.request.headers.get("Range", "")
        condition = self.request.headers.get("If-Range", "").strip()
        # A date would not do: what was changed twice in a second has one for both.
        if condition and condition != self.etag:
            return None
        return ranges.requested(header, self.length) if header else None

    def _whole(self) -> HttpResponseBase:
        if isinstance(self.request, ASGIRequest):
            return self._streamed(range(self.length), 200)
        # Servers send a file that they are given whole by the quickest way that they have.
        response = FileResponse(self._open())
        response.block_size = BLOCK
        return response

    def _streamed(self, part: range, status: int) -> HttpResponseBase:
        file = self._open()
        try:
            _go_to(file, part.start)
        except BaseException:
            file.close()
            raise
        # Django reads what is not asynchronous into memory, all of it, before an ASGI server gets any.
        blocks = _blocks_async if isinstance(self.request, ASGIRequest) else _blocks
        response = StreamingHttpResponse(blocks(file, len(part)), status=status)
        response._resource_closers.append(file.close)  # type: ignore[attr-defined]  # where FileResponse puts it
        return response

    def _open(self) -> IO[bytes]:
        """Open the file for this answer alone."""
        if not self.artifact.file:
            file: Any = ContentFile(self.text)
            return file  # type: ignore[no-any-return]  # File has the methods of IO
        try:
            opened: Any = self.artifact.file.storage.open(str(self.artifact.file.name), "rb")
        except IsADirectoryError as error:
            raise FileNotFoundError(*error.args) from error
        return opened  # type: ignore[no-any-return]  # File has the methods of IO

    def _length(self) -> int:
        """Return how many bytes the answer has; of a storage that packs its files, not how many the storage has."""
        if not self.artifact.file:
            return len(self.text)
        noted = self.artifact.size
        try:
            stored = self.artifact.file.storage.size(str(self.artifact.file.name))
        except FileNotFoundError:
            raise
        except Exception as error:
            if noted is None:
                raise FileNotFoundError(str(error)) from error
            return noted
        return int(stored) if noted is None or _has_path(self.artifact) else noted


def _has_path(artifact: UserTaskArtifact) -> bool:
    with suppress(NotImplementedError):
        return bool(artifact.file.path)
    return False


def _go_to(file: IO[bytes], position: int) -> None:
    """Skip the beginning, by reading it where the storage's files cannot seek."""
    if not position:
        return
    try:
        file.seek(position)
    except (AttributeError, OSError, NotImplementedError):
        for _block in _blocks(file, position):
            pass


def _blocks(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0 and (block := file.read(min(BLOCK, length))):
        length -= len(block)
        yield block


async def _blocks_async(file: IO[bytes], length: int) -> AsyncIterator[bytes]:
    read = sync_to_async(file.read, thread_sensitive=False)
    while length > 0 and (block := await read(min(BLOCK, length))):
        length -= len(block)
        yield block
