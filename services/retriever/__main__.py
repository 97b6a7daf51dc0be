"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

import os

from shared.service.imports import uncollected

if __name__ == "__main__":
    # A search is the work of one thread, and others search meanwhile. NumPy reads it once, when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with uncollected():
        from services.retriever.malloc import keep_compact

        keep_compact()
        from services.retriever.app import make
        from services.retriever.settings import RetrieverSettings
        from shared.service.process import main

    main("retriever", RetrieverSettings, make)
