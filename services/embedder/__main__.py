"""`python -m services.embedder`: run the embedder; `--settings` prints its settings."""

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported: none of it is garbage, and to find that out takes a fifth of the time
    from services.embedder.app import make
    from services.embedder.settings import EmbedderSettings
    from shared.process import main

    main("embedder", EmbedderSettings, make)
