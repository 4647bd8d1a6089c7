"""What a list of tasks can be asked for."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from ..models import NAME_LENGTH
from ..querysets import UserTaskStatusQuerySet
from ..states import State


class SearchForm(forms.Form):
    """Narrows a list by name and state."""

    q = forms.CharField(
        label=_("Name"),
        required=False,
        max_length=NAME_LENGTH,
        widget=forms.TextInput({"type": "search", "autocomplete": "off"}),
    )
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("All states")), *State.choices])
    everyone = forms.BooleanField(label=_("Tasks of others too"), required=False)

    def __init__(self, *args: Any, shared: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not shared:
            del self.fields["everyone"]

    @property
    def is_used(self) -> bool:
        """Whether anything has been asked for."""
        return any(self.asked.values())

    @property
    def asked(self) -> dict[str, Any]:
        """What has been asked for; without what could not be understood."""
        self.is_valid()
        return dict(self.cleaned_data)

    def narrow(self, statuses: UserTaskStatusQuerySet) -> UserTaskStatusQuerySet:
        """Return those of the statuses that have been asked for."""
        asked = self.asked
        if asked.get("q"):
            statuses = statuses.named(asked["q"])
        if asked.get("state"):
            statuses = statuses.in_state(asked["state"])
        return statuses
