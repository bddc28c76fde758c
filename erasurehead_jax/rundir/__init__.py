"""The run directory: files, metrics and telemetry."""
