"""From a request to an answer: requests, sessions, batches, and the decoding loop with its faster steps."""
