"""What the import stores."""

from __future__ import annotations

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, ProhibitNullCharactersValidator, RegexValidator
from django.db import models

GTIN_WEIGHTS = (1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3)


def gtin_check_digit(digits: str) -> str:
    """Return the thirteenth digit of a GTIN-13 that begins with these twelve (GS1 General Specifications, 7.9)."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, GTIN_WEIGHTS, strict=True))
    return str(-total % 10)


def validate_check_digit(gtin: str) -> None:
    """Refuse a mistyped GTIN-13."""
    expected = gtin_check_digit(gtin[:12])
    if gtin[12] != expected:
        raise ValidationError(f"The check digit should be {expected}.")


def validate_gtin(gtin: str) -> None:
    """Refuse what is no GTIN-13."""
    RegexValidator(r"^[0-9]{13}\Z", "Enter 13 digits.")(gtin)
    validate_check_digit(gtin)


class Product(models.Model):
    """An article of a shop, as the last import that named it described it."""

    class Category(models.TextChoices):
        """The departments of the shop."""

        GARDEN = "garden"
        HOUSEHOLD = "household"
        LIGHTING = "lighting"
        TOOLS = "tools"

    gtin = models.CharField("GTIN", max_length=13, unique=True, validators=[validate_gtin])
    name = models.CharField(max_length=120, validators=[ProhibitNullCharactersValidator()])
    category = models.CharField(max_length=20, choices=Category)
    price = models.DecimalField(
        "price in euro", max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))]
    )
    stock = models.IntegerField("pieces in stock", validators=[MinValueValidator(0)])
    available_from = models.DateField()
    import_id = models.CharField("import", max_length=128, help_text="ID of the task that imported it")
    line = models.PositiveIntegerField(help_text="Line of the imported file")

    def __str__(self) -> str:
        return f"{self.gtin} {self.name}"
