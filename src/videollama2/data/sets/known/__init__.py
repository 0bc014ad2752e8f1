"""One file per training set, with the source of its format."""
