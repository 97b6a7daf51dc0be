"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.retriever.malloc import keep_compact

        keep_compact()
        from services.retriever.app import make
        from services.retriever.settings import RetrieverSettings
        from shared.service.process import main

    main("retriever", RetrieverSettings, make)
