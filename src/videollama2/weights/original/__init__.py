"""The layout of the released checkpoints: their config.json and their tensor names, to and from ours."""
