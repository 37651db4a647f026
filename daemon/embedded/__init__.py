"""Stand-ins for Redis and Ollama, for trying out and for tests."""
