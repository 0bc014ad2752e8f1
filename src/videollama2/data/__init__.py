"""Training examples: conversations to ids and labels (labels.py), examples to batches (collate.py)."""
