"""The room as Django knows it."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "mainstay.product.accounts"
    label = "accounts"
