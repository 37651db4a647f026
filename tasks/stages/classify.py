"""Text -> label, fields and summary, by the route's labels."""

from __future__ import annotations

from collections.abc import Callable

from config.routes import Route
from tasks.containment import contained
from tasks.model import Judge, Progress
from tasks.models import Classification, Extracted

UNLABELLED = "other"


def classify(
    extracted: Extracted, route: Route, judge: Judge, progress: Callable[[Progress], None] | None = None
) -> Classification:
    """Ask the model what the documents are, and look at what they may have made of it. Without labels nothing is asked."""
    readable = [document for document in extracted.documents if document.status == "read" and document.text.strip()]
    if not route.labels:
        return Classification(label=UNLABELLED, confidence=1.0, method="route", notes=("the route has no labels",))
    if not readable:
        return Classification(
            label=UNLABELLED, confidence=0.0, method="none", review="nothing in this message could be read as text"
        )
    return contained(judge.classify(readable, extracted.mail, route, progress), extracted, route)
