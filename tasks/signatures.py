"""Who sent a webhook: one row a scheme, for checking what comes in and for signing what goes out.

Sources: Standard Webhooks 1.0.0; GitHub "Validating webhook deliveries"; GitLab "Webhooks"; Stripe "Verify webhook
signatures"; Slack "Verifying requests"; Shopify "Verify webhook deliveries"; RFC 6750, RFC 7617, RFC 9440.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from config.inbound import WebhookSource
from config.signing import PUBLIC, SECRET, signed_parts
from tasks.proofs import BadSignature, Certificate, Mac, Nothing, Presented, Proof, Token

__all__ = ["SCHEMES", "BadSignature", "Presented", "Scheme", "Verifier", "sign_standard"]


@dataclass(frozen=True)
class Scheme:
    """One row: how requests are proved, where their key is found, and which headers routes may look at."""

    proofs: tuple[Proof, ...]
    """One of them is enough."""
    keys: tuple[str, ...] = ("header:idempotency-key", "body")
    """Places of the idempotency key, the first that is there counts; without `body` at the end a key is required."""
    kept: tuple[str, ...] = ()
    """Headers handed on with the envelope."""
    challenge: bool = False
    """The sender proves the URL once by a body with `type` url_verification (Slack)."""


STANDARD = Mac(
    "webhook-signature",
    encoding="base64",
    prefix="v1,",
    public_prefix="v1a,",
    separator=" ",
    signed=("{id}", ".", "{timestamp}", ".", "{body}"),
    stamp="webhook-timestamp",
    id="webhook-id",
    encoded_keys=True,
)

_SLACK = Mac(
    "x-slack-signature",
    prefix="v0=",
    signed=("v0:", "{timestamp}", ":", "{body}"),
    stamp="x-slack-request-timestamp",
)
_STRIPE = Mac("stripe-signature", prefix="v1=", separator=",", signed=("{timestamp}", ".", "{body}"), stamp="=t")
_GITLAB_KEYS = ("header:webhook-id", "header:idempotency-key", "header:x-gitlab-event-uuid", "body")

SCHEMES: dict[str, Scheme] = {
    "standard": Scheme((STANDARD,), ("header:webhook-id",)),
    "github": Scheme(
        (Mac("x-hub-signature-256", prefix="sha256="),), ("header:x-github-delivery",), ("x-github-event",)
    ),
    "gitlab": Scheme((STANDARD, Token("x-gitlab-token")), _GITLAB_KEYS, ("x-gitlab-event", "x-gitlab-instance")),
    "stripe": Scheme((_STRIPE,), ("json:$.id",)),
    "slack": Scheme((_SLACK,), ("json:$.event_id", "body"), ("x-slack-retry-num",), challenge=True),
    "shopify": Scheme(
        (Mac("x-shopify-hmac-sha256", encoding="base64"),),
        ("header:x-shopify-webhook-id",),
        ("x-shopify-topic", "x-shopify-shop-domain"),
    ),
    "hmac": Scheme(()),
    "bearer": Scheme((Token(auth="bearer"),)),
    "basic": Scheme((Token(auth="basic"),)),
    "mtls": Scheme(()),
    "none": Scheme((Nothing(),)),
}
"""Every scheme; `hmac` and `mtls` get their proof from the source's options."""


class Verifier:
    """Checks the requests of one source. Made once, used for every request, by many threads."""

    def __init__(self, source: WebhookSource) -> None:
        self.scheme = SCHEMES[source.scheme]
        self._tolerance = source.tolerance
        secrets = [secret.get_secret_value() for secret in source.secrets]
        self._proofs = [
            (proof, mine) for proof in _proofs(source) if (mine := _meant_for(proof, secrets)) or not secrets
        ]

    def check(self, request: Presented) -> None:
        """Raise BadSignature unless the request proves that it comes from somebody who knows a secret."""
        refused: list[str] = []
        for proof, secrets in self._proofs:
            try:
                proof.check(request, secrets, self._tolerance)
            except BadSignature as error:
                refused.append(error.reason)
            else:
                return
        raise BadSignature("; ".join(refused))

    def sign(self, body: bytes, key: str, now: int) -> dict[str, str]:
        """The headers that a sender adds to `body`, for trying a source out. Signs with every secret it can."""
        proof, secrets = self._proofs[0]
        return proof.sign(body, secrets, key, now)


def sign_standard(body: bytes, secrets: Sequence[str], key: str, now: int) -> dict[str, str]:
    """The Standard Webhooks headers of an attempt made at `now`; without secrets only id and timestamp."""
    return STANDARD.sign(body, secrets, key, now)


def _proofs(source: WebhookSource) -> Iterable[Proof]:
    if source.scheme == "mtls":
        return (Certificate(source.mtls),)
    if source.scheme == "hmac":
        told = source.hmac
        return (
            Mac(
                told.header,
                algorithm=told.algorithm,
                encoding=told.encoding,
                prefix=told.prefix,
                separator=told.separator,
                signed=signed_parts(told.signed),
                stamp=told.timestamp_header,
                id=told.id_header,
            ),
        )
    return SCHEMES[source.scheme].proofs


def _meant_for(proof: Proof, secrets: Sequence[str]) -> list[str]:
    """A proof with Standard Webhooks keys takes those; where both kinds are listed, the others are for the others."""
    if isinstance(proof, Mac) and proof.encoded_keys:
        return [secret for secret in secrets if secret.startswith((SECRET, PUBLIC))]
    if isinstance(proof, Token) and proof.header == "x-gitlab-token":
        return [secret for secret in secrets if not secret.startswith(SECRET)]
    return list(secrets)
