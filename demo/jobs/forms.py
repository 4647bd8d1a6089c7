"""What users fill in."""

from __future__ import annotations

from django import forms


class UploadForm(forms.Form):
    """Takes a file, or none for the sample."""

    file = forms.FileField(required=False, label="CSV file")
