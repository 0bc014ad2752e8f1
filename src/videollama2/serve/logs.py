"""Logs as one JSON object per line, without questions and answers unless the settings say so."""

import logging
import time
from typing import Any

from ..json_lines import dumps_line


class JsonLines(logging.Formatter):
    """Time, level, logger and message, and the fields of the record's `extra={"fields": {…}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), **getattr(record, "fields", {})}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return dumps_line(line)


def log_json(level: int = logging.INFO) -> None:
    """Send this package's log and uvicorn's to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in ("videollama2", "uvicorn"):
        log = logging.getLogger(name)
        log.handlers[:] = [handler]
        log.setLevel(level)
        log.propagate = False
    # its notes on media name users' files; the receipts have them
    logging.getLogger("videollama2.engine").setLevel(logging.ERROR)
