"""Deciding what rests in review: the same way from a page and from a mail."""
