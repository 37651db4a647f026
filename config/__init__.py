"""What may be changed without touching code: settings and routes."""
