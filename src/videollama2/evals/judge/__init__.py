"""Judges of open answers: any model behind an OpenAI-compatible endpoint.

http.py        one request, bounded in time and size      prompts.py     prompts, as data
budget.py      the most that judging may cost             questions.py   from results to questions
cache.py       replies on disk                            replies.py     from replies to ratings
client.py      a judge: retries, pauses, giving up        run.py         judging a whole run
judgements.py  judgements on disk                         agreement.py   figures, agreement, bias
"""
