"""`torch.export` of a model's parts, in place of the exporters' suite that the source distribution leaves out."""


class ExportTesterMixin:
    """No checks of its own: `test_suites.py` exports vision, audio, prefill and decode by name."""
