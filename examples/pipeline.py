"""A search over gradient codes inside a scikit-learn pipeline: how fast is each, and how accurate?

python examples/pipeline.py
"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from erasurehead_jax import CodedClassifier, Exponential

# In place of pandas.read_csv: numbers, some of them missing, categories, and an answer.
random = np.random.default_rng(0)
frame = pd.DataFrame(
    {
        "age": random.integers(18, 90, 2000).astype(float),
        "income": random.lognormal(10, 1, 2000),
        "city": random.choice(["Athens", "Lima", "Oslo", "Quito"], 2000),
    }
)
odds = (frame["age"] - 50) / 15 + (frame["city"] == "Lima") * 2 - (frame["income"] > 30_000)
answer = np.where(random.logistic(size=2000) < odds, "yes", "no")
frame.loc[::7, "age"] = np.nan

columns = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
    (OneHotEncoder(handle_unknown="ignore"), ["city"]),
)
# Each of 12 simulated workers sleeps 0.5 s on average in every round.
model = make_pipeline(columns, CodedClassifier(workers=12, delay=Exponential(0.5), random_state=0))


def seconds(fitted, X, y):
    """The time that training took."""
    return fitted[-1].history_["clock_s"].iloc[-1]


search = GridSearchCV(
    model,
    {"codedclassifier__load": [1, 3], "codedclassifier__wait_for": [4, 12]},
    scoring={"auc": "roc_auc", "seconds": seconds},
    refit="auc",
    cv=3,
)
search.fit(frame, answer)

found = pd.DataFrame(search.cv_results_)
names = ["param_codedclassifier__load", "param_codedclassifier__wait_for", "mean_test_auc", "mean_test_seconds"]
print(found[names].set_axis(["load", "wait_for", "AUC", "seconds"], axis=1).round(3).to_string(index=False))
