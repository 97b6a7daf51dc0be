"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported: none of it is garbage, and to find that out takes a fifth of the time
    from services.retriever.app import make
    from services.retriever.settings import RetrieverSettings
    from shared.process import main

    main("retriever", RetrieverSettings, make)
