"""The five services. Each one imports `shared` and never another service."""

import shared  # noqa: F401  (first of all: it keeps slow libraries from loading before they are used)
