"""Training: the loop (loop.py), adapters (lora.py), running phases on composed clips (run.py)."""
