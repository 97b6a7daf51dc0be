"""`python -m services.retriever`: run the retriever; `--settings` prints its settings."""

from services.retriever.app import make
from services.retriever.settings import RetrieverSettings
from shared.process import main

if __name__ == "__main__":
    main("retriever", RetrieverSettings, make)
