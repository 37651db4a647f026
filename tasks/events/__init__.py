"""What a route makes of a webhook's event: documents and a text, found by JSON paths."""
