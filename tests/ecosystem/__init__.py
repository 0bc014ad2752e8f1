"""transformers' own common test suites, run on a tiny video + audio + image model (`tests/ecosystem/suites.py`)."""
