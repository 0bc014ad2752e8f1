"""Tests of videollama2.media, on media made here."""
