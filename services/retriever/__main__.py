"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

import os

from shared.service.imports import uncollected

if __name__ == "__main__":
    # NumPy and Arrow read these when they are imported. A search is the work of one thread, while others search too.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's own allocator keeps what many threads have freed: 60 MiB after 900 commits, of which 2 are in use.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with uncollected():
        from services.retriever.malloc import keep_compact

        keep_compact()
        from services.retriever.app import make
        from services.retriever.settings import RetrieverSettings
        from shared.service.process import main

    main("retriever", RetrieverSettings, make)
