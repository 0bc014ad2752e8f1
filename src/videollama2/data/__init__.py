"""Training data, from files to batches.

records.py, record_files.py, shards.py   files ─► records       mixture.py    which record is seen when
samples.py, labels.py, features.py       record ─► sample       batches.py, collate.py   samples ─► steps
doctor/                                  what is wrong with records, before a run finds out

scenes.py, packs.py, compose.py          clips made here, whose content is known: what is shown and heard, …
drawing.py, rendering.py, clips.py       … as frames, sound, files
questions.py, captions.py                … what is asked and answered about them
composed.py, composed_steps.py           … as batches and steps
"""
