"""Who answers for a model: one file for each kind of server, behind tasks/providers/server.py."""
