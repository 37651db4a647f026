"""The API over the whole trip: `postroom web`, a real broker, a real worker, and a sink for the webhook that goes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from daemon.embedded.broker import EmbeddedBroker
from tasks.payload import Payload
from tests.integration.api_parts import TEXT
from tests.integration.test_api_streams import heard
from tests.integration.webhook_parts import Sink, replies, sink
from tests.street import Street, signed


@dataclass
class Trip:
    """What the tests talk to."""

    http: httpx.Client
    receiver: Sink


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    """One web process and one worker for all tests of this file."""
    folder = tmp_path_factory.mktemp("trip")
    with (
        sink(replies("200 OK")) as receiver,
        EmbeddedBroker(folder / "broker") as broker,
        Street(folder, broker=broker.url, sink=receiver.url) as street,
    ):
        street.start("worker")
        with street.web() as http:
            yield Trip(http, receiver)


def posted(trip: Trip, job_id: str) -> Payload:
    """The one webhook that went out for a job."""
    (seen,) = [seen for seen in trip.receiver.seen if seen.headers["webhook-id"].startswith(job_id)]
    return Payload.model_validate(json.loads(seen.body))


def test_a_file_is_followed_to_its_result(trip: Trip) -> None:
    """202, every stage in the stream in its order, the end, and the result that the webhook carried too."""
    answer = trip.http.post("/jobs", files={"file": TEXT}, data={"source": "scanner"})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job"]
    with trip.http.stream("GET", f"/jobs/{job_id}/events") as stream:
        events = heard("\n".join(stream.iter_lines()))
    steps = [one.data["event"] for one in events if one.event == "step"]
    stages = ["accepted", "extract done", "classify done", "reply done", "deliver done"]
    assert [step for step in steps if step in stages] == stages
    percents = [one.data["percent"] for one in events if one.event == "progress"]
    assert percents == sorted(percents)
    assert (events[-1].event, events[-1].data["state"]) == ("end", "done")
    result = trip.http.get(f"/jobs/{job_id}/result")
    assert result.status_code == 200, result.text
    assert Payload.model_validate(result.json()).data == posted(trip, job_id).data


def test_who_prefers_to_wait_gets_the_result(trip: Trip) -> None:
    """`Prefer: wait=20` answers 200 with the result, to an upload and to a signed webhook alike."""
    upload = trip.http.post("/jobs", content=b"Please call back.", headers={"Prefer": "wait=20"})
    event = signed(trip.http, b'{"order": 1}', "msg_1", Prefer="wait=20")
    for answer, source in ((upload, "api"), (event, "webhook:shop")):
        assert answer.status_code == 200, answer.text
        assert answer.headers["preference-applied"] == "wait=20"
        job_id = answer.headers["location"].rpartition("/")[2]
        payload = Payload.model_validate(answer.json())
        assert (payload.data.job.id, payload.data.job.source) == (job_id, source)
        assert payload.data == posted(trip, job_id).data
