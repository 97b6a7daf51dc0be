"""`python -m services.generator`: run the generator; `--settings` prints its settings."""

from services.generator.app import make
from services.generator.settings import GeneratorSettings
from shared.process import main

if __name__ == "__main__":
    main("generator", GeneratorSettings, make)
