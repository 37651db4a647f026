"""Hostile bytes are read in a process of their own: client (in the worker), server (warm, forks), child (one file)."""
