"""Messages to token ids and back. User text is data, never control tokens."""
