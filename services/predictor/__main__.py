"""`python -m services.predictor`: run the predictor; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.predictor.app import make
        from services.predictor.settings import PredictorSettings
        from shared.service.process import main

    main("predictor", PredictorSettings, make)
