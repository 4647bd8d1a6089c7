"""What users fill in."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _


class UploadForm(forms.Form):
    """Takes a file, or none for the sample."""

    file = forms.FileField(required=False, label=_("CSV file"))
