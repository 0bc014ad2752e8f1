"""The training sets of the recipe, built from the files that their authors publish: `videollama2 data build`.

contract.py   what a set is          known/       one file per set         registry.py   all of them
finding.py    its annotation files   media_index.py   where media lie      build.py      records and manifest
fetch_list.py what downloaders need  listing.py   `data list`
"""
