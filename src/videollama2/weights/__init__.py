"""Tensor files: finding, loading, converting, merging and quantising checkpoints."""
