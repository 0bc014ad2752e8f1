"""Evaluation: benchmarks as small files, one loop for all of them, reports that can be trusted and repeated."""
