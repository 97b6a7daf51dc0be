"""The passwords of one user of the broker, as its file has them."""

import secrets

__all__ = ["new_password", "passwords_in"]


def passwords_in(text: str) -> list[str]:
    """The passwords of a file, one a line, the one in force first: one more while it is being changed."""
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def new_password() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)
