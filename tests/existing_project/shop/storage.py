from __future__ import annotations

from django.core.files.storage import FileSystemStorage


class ExportStorage(FileSystemStorage):
    """Keeps what users have exported."""
