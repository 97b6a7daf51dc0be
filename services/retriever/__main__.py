"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

from shared.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.retriever.heap import keep_compact

        keep_compact()
        from services.retriever.app import make
        from services.retriever.settings import RetrieverSettings
        from shared.process import main

    main("retriever", RetrieverSettings, make)
