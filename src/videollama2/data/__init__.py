"""Training data, from files to batches.

records.py, record_files.py, shards.py   files ─► records       mixture.py    which record is seen when
samples.py, labels.py, features.py       record ─► sample       batches.py, collate.py   samples ─► steps
doctor/                                  what is wrong with records, before a run finds out
composed/                                clips made here, whose content is known, and questions about them
"""
