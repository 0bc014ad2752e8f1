"""Training: settings, the loop, checkpoints, and whole runs from records to a finished model (run.py)."""
