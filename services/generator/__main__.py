"""`python -m services.generator`: run the generator; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    # Imported here, since each process that vLLM starts imports this module first.
    with uncollected():
        from services.generator.app import make
        from services.generator.settings import GeneratorSettings
        from shared.service.process import main

    main("generator", GeneratorSettings, make)
