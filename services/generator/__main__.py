"""`python -m services.generator`: run the generator; `--settings` prints its settings."""

import gc

if __name__ == "__main__":
    # Imported here, since each process that vLLM starts imports this module first.
    gc.disable()  # until all is imported: none of it is garbage, and to find that out takes a fifth of the time
    from services.generator.app import make
    from services.generator.settings import GeneratorSettings
    from shared.process import main

    main("generator", GeneratorSettings, make)
