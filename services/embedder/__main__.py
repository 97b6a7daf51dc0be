"""`python -m services.embedder`: run the embedder; `--settings` prints its settings."""

from services.embedder.app import make
from services.embedder.settings import EmbedderSettings
from shared.process import main

if __name__ == "__main__":
    main("embedder", EmbedderSettings, make)
