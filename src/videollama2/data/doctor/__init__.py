"""Checks training data before a run: opens every media file, counts every token, and reports what is wrong.

examine.py   records ─► findings                  worker.py    the process that opens media
decoding.py  a pool of such workers               journal.py   answers on disk, so that an interrupted check resumes
lengths.py   positions of each record             report.py    terminal, JSON, HTML page, lists of good records
"""
