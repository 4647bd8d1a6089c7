from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT
from test_settings import INSTALLED_APPS

pytestmark = pytest.mark.embedded

STATUSES = """
import os
from datetime import datetime, timedelta, UTC

import django

django.setup()

from user_tasks import user_task_stopped
from user_tasks.models import UserTaskStatus

noon = datetime(2030, 1, 1, 12, tzinfo=UTC)


def stop(state, **fields):
    status = UserTaskStatus(task_class="shop.export", state=state, created=noon, **fields)
    user_task_stopped.send(sender=UserTaskStatus, status=status)


def stop_some():
    after = {seconds: noon + timedelta(seconds=seconds) for seconds in (2, 12, 20)}
    stop("Succeeded", started=after[2], finished=after[12])
    stop("Succeeded", due=after[2], started=after[12], finished=after[20])
    stop("Canceled", finished=after[2])
"""

PROMETHEUS = """
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

processes = []
for _ in range(2):
    child = os.fork()
    if not child:
        stop_some()
        os._exit(0)
    processes.append(child)
for child in processes:
    os.waitpid(child, 0)
registry = CollectorRegistry()
MultiProcessCollector(registry)
for state in ("Succeeded", "Canceled"):
    for name in ("stopped_total", "run_seconds_sum", "run_seconds_count", "wait_seconds_sum"):
        print(registry.get_sample_value(f"user_tasks_{name}", {"task_class": "shop.export", "state": state}))
"""

OPENTELEMETRY = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
stop_some()
found = {}
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        for point in metric.data.data_points:
            state = point.attributes["state"]
            assert point.attributes["task_class"] == "shop.export"
            found[metric.name, state] = point.sum if hasattr(point, "sum") else point.value
for key in sorted(found):
    print(*key, found[key])
"""


def output_of(code: str, app: str, **environment: str) -> list[str]:
    overrides: dict[str, Any] = {"INSTALLED_APPS": [*INSTALLED_APPS, app]}
    done = subprocess.run(
        [sys.executable, "-c", STATUSES + code],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "test_settings",
            "SETTINGS_OVERRIDES": json.dumps(overrides),
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_prometheus_is_told_by_all_processes_of_a_worker(tmp_path: Path) -> None:
    values = output_of(PROMETHEUS, "user_tasks.prometheus", PROMETHEUS_MULTIPROC_DIR=str(tmp_path))

    assert values == ["4.0", "36.0", "4.0", "24.0", "2.0", "None", "None", "None"]


def test_opentelemetry_is_told() -> None:
    values = output_of(OPENTELEMETRY, "user_tasks.opentelemetry")

    assert values == [
        "user_tasks.run.duration Succeeded 18.0",
        "user_tasks.stopped Canceled 1",
        "user_tasks.stopped Succeeded 2",
        "user_tasks.wait.duration Succeeded 12.0",
    ]
