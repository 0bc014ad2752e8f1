"""The doctor of training data: opens every medium, counts every token, and says what is wrong before a run does.

examine.py   records ─► findings           worker.py    the child process that opens media
decoding.py  children that may be killed   journal.py   what was found before, so that it is not looked for again
lengths.py   positions of each record      report.py    terminal, JSON, a page, lists of good records
"""
