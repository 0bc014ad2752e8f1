"""The HTTP server: an OpenAI-compatible API over one Engine (extra `serve`: FastAPI, uvicorn).

    request ── guard (key, size, pace) ── schema ── intake (media) ── scheduler ──► pieces ──► JSON or a stream
                                                        │                 └── prepare (children) ── join ── step … leave
                                                        └── files, fetch, data URLs

`app.create_app` makes it, `running.serve` runs it. What a stranger may do is in safety.py, all else in settings.py.
"""
