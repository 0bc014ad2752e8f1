"""Judges of open answers: any model behind an OpenAI-compatible endpoint.

http.py        one request, bounded in time and size      prompts.py     what is asked, as data
budget.py      what it may cost at most                   questions.py   from results to what is asked
cache.py       replies that are there already             replies.py     what a reply says
client.py      a judge: tries, pauses, giving up          run.py         a whole run, judged
judgements.py  what is kept, line by line                 agreement.py   figures, agreement, bias
"""
