"""The HTTP side: webhooks, health and the jobs as JSON."""
