"""Suites: benchmarks as sets of samples with the metrics that score them."""

from eval.suites.cross_view import CrossViewSuite
from eval.suites.distance import DistanceSuite

__all__ = ["CrossViewSuite", "DistanceSuite"]
