"""Messages to token ids and back. What users write is data, never control."""
