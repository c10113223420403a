"""What scikit-learn's estimators become: operators of ai.onnx.ml, with parameters as attributes, and matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .case import Case, Feed, Sample, Skipped, quiet
from .check import runs

SOURCE = "skl2onnx"
WORDS = ("small", "model", "large", "weight", "bit", "file", "rate", "loss", "step", "grid")


def cases() -> Iterator[Case]:
    """One case per estimator.

    Raises:
        Skipped: skl2onnx or scikit-learn is missing.
    """
    try:
        import skl2onnx  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise Skipped(f"{error.name} cannot be imported (pip install skl2onnx scikit-learn)") from None
    for name, make in _estimators().items():
        yield Case(name, SOURCE, partial(_sample, make))
    make = _estimators()["LogisticRegression"]
    yield Case("LogisticRegression, probabilities in a map", SOURCE, partial(_sample, make, zipmap=True))


def _estimators() -> dict[str, Callable[[], Any]]:
    from sklearn import (
        cluster,
        decomposition,
        discriminant_analysis,
        ensemble,
        feature_extraction,
        gaussian_process,
        linear_model,
        mixture,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
    )

    scaled = partial(pipeline.make_pipeline, preprocessing.StandardScaler())
    return {
        "MLPClassifier": lambda: neural_network.MLPClassifier(hidden_layer_sizes=(32, 16), max_iter=5, random_state=0),
        "MLPRegressor": lambda: neural_network.MLPRegressor(hidden_layer_sizes=(32,), max_iter=5, random_state=0),
        "LogisticRegression": lambda: linear_model.LogisticRegression(),
        "LinearRegression": lambda: linear_model.LinearRegression(),
        "Ridge, many outputs": lambda: linear_model.Ridge(),
        "SGDClassifier": lambda: linear_model.SGDClassifier(random_state=0),
        "LinearSVC": lambda: svm.LinearSVC(random_state=0),
        "SVC, RBF": lambda: svm.SVC(probability=False, random_state=0),
        "SVR": lambda: svm.SVR(),
        "OneClassSVM": lambda: svm.OneClassSVM(),
        "KNeighborsClassifier": lambda: neighbors.KNeighborsClassifier(3),
        "DecisionTreeClassifier": lambda: tree.DecisionTreeClassifier(max_depth=5, random_state=0),
        "RandomForestClassifier": lambda: ensemble.RandomForestClassifier(n_estimators=5, max_depth=5, random_state=0),
        "RandomForestRegressor": lambda: ensemble.RandomForestRegressor(n_estimators=5, max_depth=5, random_state=0),
        "GradientBoostingClassifier": lambda: ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
        "HistGradientBoostingRegressor": lambda: ensemble.HistGradientBoostingRegressor(max_iter=5, random_state=0),
        "AdaBoostClassifier": lambda: ensemble.AdaBoostClassifier(n_estimators=3, random_state=0),
        "IsolationForest": lambda: ensemble.IsolationForest(n_estimators=5, random_state=0),
        "GaussianNB": lambda: naive_bayes.GaussianNB(),
        "LinearDiscriminantAnalysis": lambda: discriminant_analysis.LinearDiscriminantAnalysis(),
        "GaussianProcessRegressor": lambda: gaussian_process.GaussianProcessRegressor(),
        "GaussianMixture": lambda: mixture.GaussianMixture(3, random_state=0),
        "KMeans": lambda: cluster.KMeans(4, n_init=1, random_state=0),
        "PCA": lambda: decomposition.PCA(6),
        "TruncatedSVD": lambda: decomposition.TruncatedSVD(6, random_state=0),
        "StandardScaler, LogisticRegression": lambda: scaled(linear_model.LogisticRegression()),
        "StandardScaler, PCA, MLPClassifier": lambda: scaled(
            decomposition.PCA(8), neural_network.MLPClassifier(hidden_layer_sizes=(24,), max_iter=5, random_state=0)
        ),
        "MinMaxScaler, PolynomialFeatures, Ridge": lambda: pipeline.make_pipeline(
            preprocessing.MinMaxScaler(), preprocessing.PolynomialFeatures(2), linear_model.Ridge()
        ),
        "OneHotEncoder of words, LogisticRegression": lambda: pipeline.make_pipeline(
            preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression()
        ),
        "CountVectorizer, LogisticRegression": lambda: pipeline.make_pipeline(
            feature_extraction.text.CountVectorizer(), linear_model.LogisticRegression()
        ),
        "TfidfVectorizer, MLPClassifier": lambda: pipeline.make_pipeline(
            feature_extraction.text.TfidfVectorizer(),
            neural_network.MLPClassifier(hidden_layer_sizes=(16,), max_iter=5, random_state=0),
        ),
    }


def _sample(make: Callable[[], Any], *, zipmap: bool = False) -> Sample:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.base import ClassifierMixin

    estimator = make()
    rng = np.random.default_rng(0)
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    first = type(estimator[0]).__name__ if hasattr(estimator, "steps") else ""
    texts, words = first.endswith("Vectorizer"), first == "OneHotEncoder"
    x: np.ndarray = rng.standard_normal((120, 16)).astype(np.float32)
    labels = (x[:, :3] @ rng.standard_normal((3, 3))).argmax(axis=1)
    if texts:
        x = np.array([" ".join(rng.choice(WORDS, 6)) for _ in labels], object)[:, None]
    elif words:
        x = rng.choice(np.array(WORDS, object), (120, 2))
    y: np.ndarray = labels
    if (
        hasattr(last, "predict")
        and not hasattr(last, "classes_")
        and type(last).__name__.endswith(("Regressor", "SVR"))
    ):
        y = rng.standard_normal(len(labels))
    elif type(last).__name__ in ("LinearRegression", "Ridge"):
        y = rng.standard_normal((len(labels), 4))
    kind = StringTensorType if texts or words else FloatTensorType
    with quiet():
        estimator.fit(x[:, 0] if texts else x, y)
        options = (
            {id(estimator): {"zipmap": zipmap}}
            if isinstance(last, ClassifierMixin) and hasattr(last, "predict_proba")
            else None
        )
        try:
            model = convert_sklearn(
                estimator,
                initial_types=[("x", kind([None, x.shape[1]]))],
                options=options,
                target_opset={"": 17, "ai.onnx.ml": 3},
            )
        except Exception as error:  # the converter gives up in many ways
            raise Skipped(f"skl2onnx cannot convert it: {str(error).splitlines()[0]}") from error
    feeds: list[Feed] = [{"x": x[start : start + 10]} for start in range(0, 60, 10)]
    return Sample(model, feeds, runs=runs(model, feeds))
