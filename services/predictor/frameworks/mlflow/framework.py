"""Models of MLflow: a folder with a file `MLmodel`."""

from services.predictor.frameworks.base import FrameworkOptions, LoadedModel, ModelFiles
from services.predictor.frameworks.mlflow.mlmodel import read_mlmodel
from services.predictor.frameworks.mlflow.native import load_native
from services.predictor.frameworks.mlflow.pyfunc import load_pyfunc

__all__ = ["MlflowFramework"]


class MlflowFramework:
    name = "mlflow"
    platform = "mlflow"
    files = ("MLmodel",)

    def prepare(self) -> None:
        """What is needed depends on the model's flavours."""

    def load(self, files: ModelFiles, options: FrameworkOptions) -> LoadedModel:
        mlmodel = read_mlmodel(files.file)
        return load_native(mlmodel, files, options) or load_pyfunc(mlmodel, files, options)
