from __future__ import annotations

from django.dispatch import receiver

from user_tasks.signals import user_task_stopped

from .models import Notice


@receiver(user_task_stopped)
def tell(sender, status, **kwargs):
    Notice.objects.create(text=f"{sender.__name__} {status.name}: {status.state}")
