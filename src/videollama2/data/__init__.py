"""Training data, from files to batches.

records.py, record_files.py, shards.py   files ─► records       mixture.py    records ─► order of the steps
samples.py, labels.py, features.py       record ─► sample       batches.py, collate.py   samples ─► micro-batches
annotations.py, annotation_files.py      official annotation files as rows; finding them and their media
streams.py, official.py                  large official files and archives, for training sets
sets/                                    the training sets of the recipe, from official files to records
doctor/                                  checks records and their media before a run
composed/                                clips made from labelled pictures and sounds, whose content is known
"""
