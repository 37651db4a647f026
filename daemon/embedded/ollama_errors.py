"""Errors as Ollama's API tells them: a status and `{"error": "..."}`."""

from __future__ import annotations


class ApiError(Exception):
    """An answer that is an error: HTTP status and the sentence in `error`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def not_found(model: str) -> ApiError:
    """The model that was asked for is not here."""
    return ApiError(404, f"model '{model}' not found")


def busy() -> ApiError:
    """Too many requests wait already."""
    return ApiError(503, "server busy, please try again.  maximum pending requests exceeded")


def stopped(reason: str = "") -> ApiError:
    """The engine's process ended while it was needed."""
    tail = f": {reason}" if reason else ""
    return ApiError(
        500,
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
        f"check the server's log for details{tail}",
    )
