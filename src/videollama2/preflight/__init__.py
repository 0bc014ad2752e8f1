"""What is known about a model before its weights are read: files, tokens, memory; `check` and `train --dry-run`."""
