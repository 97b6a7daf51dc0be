"""Documents and their uploads: /v1/collections/{collection}/documents."""
