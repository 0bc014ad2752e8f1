"""Training: settings, the loop, checkpoints and a run from records to a finished model (run.py)."""
