"""Reports: what a run's results amount to, as data (summary.py), and as Markdown, one page of HTML, or a few lines."""
