"""Predictions made before weights are read: files, tokens, memory; `check` and `train --dry-run`."""
