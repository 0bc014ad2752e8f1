"""Words: messages to token ids and back; what people write is data, never control."""
