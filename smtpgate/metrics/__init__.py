"""The metrics for Prometheus; only this package imports prometheus_client."""

from smtpgate.metrics.bounded import OTHER, UNKNOWN
from smtpgate.metrics.catalogue import CATALOGUE
from smtpgate.metrics.sink import Metrics, VerdictTally
from smtpgate.metrics.worker import WorkerMetrics

__all__ = ["CATALOGUE", "OTHER", "UNKNOWN", "Metrics", "VerdictTally", "WorkerMetrics"]
