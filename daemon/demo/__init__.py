"""The demo: real inputs over the real protocols, local sinks for the answers, and what should have come of each."""
