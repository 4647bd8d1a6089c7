"""The products in Django's admin."""

from __future__ import annotations

from django.contrib import admin

from .models import Product


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows what has been imported."""

    list_display = ("gtin", "name", "category", "price", "stock", "available_from")
    list_filter = ("category",)
    search_fields = ("gtin", "name")
