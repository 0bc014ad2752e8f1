"""Everything about files of tensors."""
