"""Times as annotations write them."""


def clock_seconds(clock: str) -> float:
    """0:01:02.5 as 62.5; raises ValueError if it is not a time."""
    total = 0.0
    for part in clock.split(":"):
        total = total * 60 + float(part)
    return total
