"""What the API answers, by example: for its description."""

from __future__ import annotations

from typing import Any

from .detailed import DetailedArtifactSerializer, DetailedStatusSerializer
from .serializers import ArtifactSerializer, StatusSerializer
from .states import State

SITE = "https://shop.example"
TASK = "1f3870be-274f-4c49-b3e3-1a0c6728957f"
ARTIFACT = "8b1a9953-c461-4296-a827-abf8c47804d7"
MOMENTS = {"created": "2026-05-04T09:30:00Z", "modified": "2026-05-04T09:30:42Z"}

RUNNING = {
    "name": "Export of orders",
    "state": State.IN_PROGRESS.value,
    "state_text": "In Progress",
    "completed_steps": 40,
    "total_steps": 100,
    "attempts": 1,
    **MOMENTS,
    "artifacts": [],
}
COMPRESSING = {**RUNNING, "state": "Compressing", "state_text": "Compressing", "completed_steps": 90}
CANCELED = {**RUNNING, "state": State.CANCELED.value, "state_text": "Canceled"}
SUCCEEDED = {
    **RUNNING,
    "state": State.SUCCEEDED.value,
    "state_text": "Succeeded",
    "completed_steps": 100,
    "artifacts": [f"{SITE}/artifacts/{ARTIFACT}/"],
}

PLACE: dict[str, Any] = {
    "uuid": TASK,
    "url": f"{SITE}/tasks/{TASK}/",
    "cancel_url": f"{SITE}/tasks/{TASK}/cancel/",
    "page_url": f"{SITE}/my-tasks/{TASK}/",
    "parent": None,
    "children": [],
    "started": "2026-05-04T09:30:02Z",
    "task_class": "shop.tasks.export",
}
UNFINISHED = {**PLACE, "done": False, "progress": 0.4, "finished": None, "estimated_time_left": 60.0}
FINISHED = {**PLACE, "done": True, "progress": 1.0, "finished": MOMENTS["modified"], "estimated_time_left": None}

OUTPUT = {"name": "Output", **MOMENTS, "status": f"{SITE}/tasks/{TASK}/", "file": "", "text": "", "url": ""}

DOWNLOAD: dict[str, Any] = {
    "uuid": ARTIFACT,
    "download_url": f"{SITE}/artifacts/{ARTIFACT}/download/",
    "file_name": "orders.csv",
    "size": 73_214,
    "content_type": "text/csv; charset=utf-8",
    "expires": "2026-06-03T09:30:00Z",
    "expired": None,
}

RUNS, CUSTOM, ENDED, STOPPED = "In progress", "In a state of its own", "Succeeded", "Canceled"

EXAMPLES: dict[tuple[Any, bool], dict[str, dict[str, Any]]] = {
    (StatusSerializer, False): {RUNS: RUNNING, CUSTOM: COMPRESSING, ENDED: SUCCEEDED},
    (StatusSerializer, True): {STOPPED: CANCELED},
    (DetailedStatusSerializer, False): {
        RUNS: {**RUNNING, **UNFINISHED},
        CUSTOM: {**COMPRESSING, **UNFINISHED, "progress": 0.9, "estimated_time_left": 4.5},
        ENDED: {**SUCCEEDED, **FINISHED},
    },
    (DetailedStatusSerializer, True): {STOPPED: {**CANCELED, **FINISHED, "progress": 0.4}},
    (ArtifactSerializer, False): {
        "A file": {**OUTPUT, "file": "/media/user_tasks/2026/05/04/orders.csv"},
        "A text": {**OUTPUT, "name": "Error", "text": "Row 17 has no price."},
        "A link": {**OUTPUT, "url": "https://shop.example/reports/2026/05/"},
    },
    (DetailedArtifactSerializer, False): {
        "A file": {**OUTPUT, "file": "/media/user_tasks/2026/05/04/orders.csv", **DOWNLOAD},
    },
}
"""Named answers by serializer, and by whether a cancellation is answered; a project's own serializers have none."""
