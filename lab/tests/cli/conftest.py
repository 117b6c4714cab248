"""Commands run as users run them."""

from commands import as_for_users  # noqa: F401
