"""Metrics for Prometheus: ``INSTALLED_APPS += ["user_tasks.prometheus"]``."""
