"""How metrics are written in tables, figures and lines, whatever they measure. Does not import JAX."""

_NAMES = {
    "train_loss": "mean training loss",
    "test_loss": "mean test loss",
    "test_auc": "test AUC",
    "test_mse": "test mean squared error",
    "test_mae": "test mean absolute error",
    "test_deviance": "test mean Poisson deviance",
}


def metric_name(column: str) -> str:
    """A column of history.csv in words."""
    return _NAMES.get(column, column.replace("_", " "))


def metric_value(value: float) -> str:
    """A value with four digits after the point, or four significant ones if it is very large or small."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 10_000 else f"{value:.4g}"
