"""Models that a real MLflow has saved, and calls of them by it.

It runs in MLflow's own environment (see `tests.harness.mlflow_server`), which finds there what it lacks: the libraries
of models of this one.
"""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

from tests.harness.mlflow_server import PYTHON
from tests.harness.paths import ROOT

__all__ = ["LIBRARIES", "run", "save_models"]

LIBRARIES: Final = sysconfig.get_paths()["purelib"]

PREAMBLE: Final = """
import json, logging, sys, warnings
from pathlib import Path
sys.path.append(LIBRARIES)
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
"""

SAVE: Final = """
import lightgbm, mlflow.lightgbm, mlflow.onnx, mlflow.pyfunc, mlflow.pytorch, mlflow.sklearn, mlflow.transformers
import mlflow.xgboost, numpy as np, pandas as pd, torch, transformers, xgboost
from mlflow.models import infer_signature
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

folder, words = Path(given["folder"]), given["words"]
options = {"pip_requirements": ["numpy"]}
rows = pd.DataFrame(np.random.default_rng(7).normal(size=(60, 3)), columns=["a", "b", "c"])
labels = (rows.a + rows.b > 0).astype(int)
signature = infer_signature(rows, labels.to_numpy())
made = {}


def keep(name, predicted):
    made[name] = np.asarray(predicted).tolist()


linear = LogisticRegression().fit(rows, labels)
mlflow.sklearn.save_model(linear, folder / "sklearn", serialization_format="skops", signature=signature, **options)
keep("sklearn", linear.predict(rows))
chances = dict(serialization_format="skops", pyfunc_predict_fn="predict_proba", **options)
arrays = LogisticRegression().fit(rows.to_numpy(), labels)
mlflow.sklearn.save_model(arrays, folder / "chances", signature=infer_signature(rows.to_numpy()), **chances)
keep("chances", arrays.predict_proba(rows.to_numpy()))
mlflow.sklearn.save_model(linear, folder / "pickle", serialization_format="pickle", signature=signature, **options)
keep("pickle", linear.predict(rows))

mixed = rows.assign(city=np.where(rows.c > 0, "paris", "london"))
named = make_pipeline(
    make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), LogisticRegression()
).fit(mixed, labels)
mlflow.sklearn.save_model(
    named, folder / "mixed", serialization_format="skops", signature=infer_signature(mixed), **options
)
keep("mixed", named.predict(mixed))

classifier = xgboost.XGBClassifier(n_estimators=3).fit(rows, labels)
mlflow.xgboost.save_model(classifier, folder / "xgboost", signature=signature, **options)
keep("xgboost", classifier.predict(rows))
mlflow.xgboost.save_model(classifier.get_booster(), folder / "booster", signature=signature, **options)
keep("booster", classifier.get_booster().inplace_predict(rows.to_numpy()))
trees = lightgbm.train(
    {"objective": "binary", "verbose": -1, "min_data_in_leaf": 2}, lightgbm.Dataset(rows, labels), 3
)
mlflow.lightgbm.save_model(trees, folder / "lightgbm", signature=signature, **options)
keep("lightgbm", trees.predict(rows))

graph = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["y"])],
    "m",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
)
onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
mlflow.onnx.save_model(onnx, folder / "onnx", **options)
keep("onnx", np.maximum(rows.to_numpy(), 0))
layer = torch.nn.Linear(3, 2).eval()
example = rows.to_numpy().astype(np.float32)
mlflow.pytorch.save_model(layer, folder / "pytorch", input_example=example, **options)
keep("pytorch", layer(torch.from_numpy(example)).detach().numpy())
pipeline = transformers.pipeline("text-classification", model=words)
mlflow.transformers.save_model(pipeline, folder / "transformers", **options)
keep("transformers", [each["score"] for each in pipeline(["good day", "bad"])])


class Sums(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if "name" in model_input:
            names = model_input["name"].str.upper()
            return pd.DataFrame({"sum": model_input["a"] + model_input["b"], "name": names})
        return model_input.sum(axis=1) * (params or {}).get("factor", 1)


columns = pd.DataFrame({"a": [1.5, 2.0], "b": [1, 2], "name": ["x", "y"]})
frames = infer_signature(columns, pd.DataFrame({"sum": [2.5], "name": ["X"]}))
mlflow.pyfunc.save_model(folder / "pyfunc", python_model=Sums(), signature=frames, **options)
tensors = infer_signature(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), params={"factor": 1.0})
mlflow.pyfunc.save_model(folder / "tensors", python_model=Sums(), signature=tensors, **options)
mlflow.pyfunc.save_model(folder / "unsigned", python_model=Sums(), **options)
code = folder / "code.py"
code.write_text(
    "import mlflow\\n\\n\\nclass Code(mlflow.pyfunc.PythonModel):\\n"
    "    def predict(self, context, model_input, params=None):\\n        return -model_input\\n\\n\\n"
    "mlflow.models.set_model(Code())\\n"
)
mlflow.pyfunc.save_model(folder / "from_code", python_model=str(code), signature=tensors, **options)
print(json.dumps(made | {"rows": rows.to_numpy().tolist(), "cities": mixed.city.tolist()}))
"""


def run(program: str, given: object) -> Any:
    """Run a program in MLflow's environment; it has `given`, and prints JSON in its last line."""
    text = f"LIBRARIES = {LIBRARIES!r}\n{PREAMBLE}\ngiven = json.loads({json.dumps(given)!r})\n{program}"
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_OFFLINE": "1",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    done = subprocess.run([PYTHON, "-c", text], env=env, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return json.loads(done.stdout.decode().strip().splitlines()[-1])


def save_models(folder: Path, words: Path) -> dict[str, Any]:
    """Models of each flavour, in folders of their names, with what each predicts for the `rows` that come with them.

    `words` is a model of transformers for text classification.
    """
    made: dict[str, Any] = run(SAVE, {"folder": str(folder), "words": str(words)})
    return made
