"""`python -m services.embedder`: run the embedder; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.embedder.app import make
        from services.embedder.settings import EmbedderSettings
        from shared.service.process import main

    main("embedder", EmbedderSettings, make)
