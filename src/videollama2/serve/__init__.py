"""The HTTP server: an OpenAI-compatible API over one Engine (extra `serve`: FastAPI, uvicorn).

    request ── guard (key, size, pace) ── schema ── intake (media) ── scheduler ──► text ──► JSON or a stream
                                                        │                 └── prepare (workers) ── join ── step … leave
                                                        └── files, fetch, data URLs

`app.create_app` makes the application, `running.serve` runs it. settings.py has every limit on requests and all other
operator settings.
"""
