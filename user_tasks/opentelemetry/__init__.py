"""Metrics for OpenTelemetry: ``INSTALLED_APPS += ["user_tasks.opentelemetry"]``."""
