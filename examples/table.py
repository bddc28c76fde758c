"""A CSV file of one's own: trained from Python, applied to new rows.

python examples/table.py [FILE TARGET]      without a file, it makes one
"""

import functools
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import erasurehead_jax as eh
from erasurehead_jax.data import table

if len(sys.argv) == 3:
    file, target = sys.argv[1:]
else:
    rng, rows = np.random.default_rng(0), 3000
    age, town = rng.normal(40, 12, rows), rng.choice(["Ely", "Bath", "Wells"], rows)
    score = (age - 40) / 12 + (town == "Bath") + rng.normal(0, 0.5, rows)
    age[rng.random(rows) < 0.05] = np.nan
    frame = pd.DataFrame({"age": age.round(1), "town": town, "bought": np.where(score > 0.3, "yes", "no")})
    file, target = "customers.csv", "bought"
    frame.to_csv(file, index=False)

data = table(str(Path(file).absolute()), target)
runs = [
    eh.train(
        data,
        eh.Logistic(),
        scheme,
        delay=eh.Exponential(0.05),
        optimizer=functools.partial(eh.nesterov, step_size=1.0),
        rounds=60,
    )
    for scheme in (eh.uncoded(12), eh.egc(12, load=3), eh.erasurehead(12, load=3, wait_for=5))
]
(comparison,) = eh.report(runs).tables.values()
print(comparison[["scheme", "clock_s", "half_x", "test_auc"]].to_string(index=False))

run = eh.load(runs[-1].folder)  # later, without the data
rows = pd.read_csv(file, nrows=5).drop(columns=target)
print(rows.assign(prediction=run.predict(rows), probability=run.predict_proba(rows)[:, 1].round(3)))
