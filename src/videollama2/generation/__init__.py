"""From embeddings to answers: requests, sessions, and the one decoder that they share.

request.py   what a caller asks            prompt.py    the interface to the encoders
runner.py    room, prompts, receipts       sequence.py  one prompt and its tokens so far
batch.py     sequences decoded together    steps.py     prefill and decoding steps (cuda_graph.py: recorded)
session.py   open media, answer streams    sampling.py  choosing tokens; output.py: tokens to text
"""
