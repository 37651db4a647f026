"""`/metrics` over real HTTP, a real broker, a real worker's process and a real ledger; its rules and its dashboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from config.settings import Settings
from daemon.embedded.broker import EmbeddedBroker
from daemon.web.metrics import KEEP, Answers
from tasks import guard as guards
from tasks.app import make_app, publish
from tasks.clock import now_ms
from tasks.errors import Unavailable
from tasks.ledger import Ledger, Scope
from tasks.meters import FIRST_TOKEN, TICKED, Meters
from tasks.models import Stage
from tasks.outages import Reporter
from tasks.recorder import Recorder
from tests.integration.api_parts import TEXT, House, bearer, running, take_to_the_end
from tests.integration.webhook_parts import problem

REPOSITORY = Path(__file__).resolve().parents[2]
MONITORING = REPOSITORY / "config" / "monitoring"
RULES, RULES_TEST = MONITORING / "postroom.rules.yml", MONITORING / "postroom.rules.test.yml"
UNPACKED = Path(sys.prefix) / "promtool" / "usr/bin/promtool"
"""Where `.ci/packages` puts it."""
PROMTOOL = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else "")
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
IMAP = {"support": {"host": "127.0.0.1", "user": "support@team.example", "password": "x", "canary": 600}}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def house(settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("POSTROOM_BROKER_URL", broker.url)
    monkeypatch.setenv("POSTROOM_IMAP", json.dumps(IMAP))
    monkeypatch.setattr("daemon.web.metrics.KEEP", 0)
    with running(settings) as made:
        yield made


def read(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # the library says no types


def scrape(house: House) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Samples by name and labels, read by the reference parser, which refuses what the standard forbids."""
    answer = house.http.get("/metrics", headers=OPEN_METRICS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in read(answer.text):
        found.setdefault(family.name, {})
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_what_stands_in_the_ledger_and_the_broker_is_told(house: House, ledger_url: str) -> None:
    """Jobs by state, queues, mailboxes, sizes; and both formats of Prometheus are well formed."""
    done, left = (house.job(house.post(files={"file": (f"{name}.txt", name.encode(), TEXT[2])})) for name in "ab")
    take_to_the_end(house.ledger, done.id)
    publish(make_app(Settings(broker_url=os.environ["POSTROOM_BROKER_URL"])), left.id, Stage.CLASSIFY)
    house.ledger.imap_folders.update("support", "INBOX", searched_at=now_ms() - 90_000, canary_ms=1500, canary_at=1)
    house.ledger.imap_folders.update("gone", "INBOX", searched_at=1)
    found = scrape(house)
    numbers = {labels[0][1]: value for labels, value in found["postroom_jobs"].items()}
    assert (numbers["done"], numbers["received"] + numbers["extracting"], sum(numbers.values())) == (1, 1, 2)
    assert found["postroom_queue_depth"][("queue", "model"),] == 1
    assert found["postroom_ledger_up"] == found["postroom_broker_up"] == {(): 1}
    assert found["postroom_rescue_up"] == {(): 0}
    for ago, up in ((1, 1), (300, 0)):  # one that runs, and one that hangs
        rescue = Meters()
        rescue.set(TICKED, time.time() - ago)
        Recorder(house.ledger, "rescue", rescue).write()
        assert scrape(house)["postroom_rescue_up"] == {(): up}
    assert found["postroom_ledger_bytes"][()] > 10_000
    mailbox = (("account", "support"), ("folder", "INBOX"))
    assert 90 <= found["postroom_mailbox_search_age_seconds"][mailbox] < 150
    assert found["postroom_mailbox_canary_seconds"] == {mailbox: 1.5}
    assert found["postroom_mailbox_canary_every_seconds"] == {(("account", "support"),): 600}
    plain = house.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert "postroom_jobs{" in plain.text
    if PROMTOOL:
        said = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=plain.text, capture_output=True, text=True, check=False
        )
        assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.sqlite_only
def test_a_workers_figures_are_there_and_stay_when_it_ends(house: House, settings: Settings) -> None:
    """A process of its own reads a document: its time, its consuming and its end show at the web process."""
    job = house.job(house.post(files={"file": TEXT}))
    publish(make_app(Settings(broker_url=os.environ["POSTROOM_BROKER_URL"])), job.id, Stage.EXTRACT)
    environment = {
        **os.environ,
        "POSTROOM_STATE_DIR": str(settings.state_dir),
        "POSTROOM_WORKER__CANARY": "1",
    }
    command = [sys.executable, "-m", "daemon.cli", "worker", "--queues", "extract", "--concurrency", "1"]
    worker = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (found := scrape(house))["postroom_queue_workers"][("queue", "extract"),]:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        assert found["postroom_queue_workers"][("queue", "deliver"),] == 0
        assert found["postroom_queue_canary_age_seconds"][("queue", "extract"),] < 30
        while (now := house.ledger.jobs.get(job.id)) and now.stage is Stage.EXTRACT:
            assert time.monotonic() < deadline, now
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    done = (("outcome", "done"), ("stage", "extract"))
    assert scrape(house)["postroom_stage_seconds_count"] == {done: 1}


def test_the_ledger_away_is_told_and_no_counter_falls_to_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are left out, the answer is 200: an alert can tell a ledger that is down from a web process that is."""
    mine = Meters()
    mine.observe(FIRST_TOKEN, 0.3, "m")
    Recorder(house.ledger, "one", mine).write()
    assert scrape(house)["postroom_model_first_token_seconds_count"] == {(("model", "m"),): 1}

    def fails(*_: Any) -> Any:
        raise Unavailable("ledger", "away")

    monkeypatch.setattr(type(house.ledger.database), "read", fails)
    found = scrape(house)
    assert found["postroom_ledger_up"] == {(): 0}
    assert found["postroom_broker_up"] == {(): 1}
    assert "postroom_model_first_token_seconds" not in found
    assert "postroom_jobs" not in found


def test_what_no_process_reaches_is_told_by_one_that_never_asked(house: House, settings: Settings) -> None:
    """A worker's breaker for the mail server opens, the rescue misses Redis; both show at the web process, until they
    are back. What is configured and well is told as such.
    """
    out = settings.smtp_out
    relay, model = f"smtp:{out.host}:{out.port}", f"ollama:{settings.model.addresses()[0]}"

    def held(found: dict[str, dict[tuple[tuple[str, str], ...], float]], figure: str) -> dict[str, float]:
        return {labels[0][1]: value for labels, value in found[f"postroom_{figure}"].items()}

    found = scrape(house)
    well = {"ledger": 0, "redis": 0, relay: 0, model: 0}
    assert held(found, "breaker_open") == held(found, "dependency_failing_seconds") == well
    guards.forget()
    for _ in range(3):
        with pytest.raises(Unavailable), guards.guard(relay).call():
            raise Unavailable(relay, "refuses the connection")
    Reporter(settings, house.ledger).look()
    guards.forget()  # the one that saw it is another process
    house.ledger.outages.failed("redis", now_ms() - 90_000, now_ms(), "refuses the connection", settle_ms=1000)
    found = scrape(house)
    assert held(found, "breaker_open") == well | {relay: 1}, "nobody holds calls to Redis back"
    assert 90 <= held(found, "dependency_failing_seconds")["redis"] < 150
    for name in (relay, "redis"):
        assert house.ledger.outages.worked(name, now_ms() + 1)
    found = scrape(house)
    assert held(found, "breaker_open") == held(found, "dependency_failing_seconds") == well


@pytest.mark.sqlite_only
def test_who_may_read_it(settings: Settings, ledger: Ledger) -> None:
    """Where tokens are asked for, one with the scope `metrics`, which opens nothing else."""
    with running(settings, require_token=True) as house:
        tokens = {scope: house.ledger.tokens.create(scope.value, [scope])[1] for scope in Scope}
        problem(house.http.get("/metrics"), 401, "no-token")
        problem(house.http.get("/metrics", headers=bearer(tokens[Scope.READ])), 403, "scope")
        assert house.http.get("/metrics", headers=bearer(tokens[Scope.METRICS])).status_code == 200
        assert house.http.get("/metrics", headers=bearer(tokens[Scope.ADMIN])).status_code == 200
        problem(house.http.get("/jobs", headers=bearer(tokens[Scope.METRICS])), 403, "scope")


def test_scrapes_within_some_seconds_share_one_look() -> None:
    """However often it is asked."""
    now, looks = 0.0, 0

    def look() -> list[Any]:
        nonlocal looks
        looks += 1
        return []

    answers = Answers(look, lambda: now)
    for _ in range(5):
        answers.collect()
    assert looks == 1
    now = KEEP
    answers.collect()
    assert looks == 2


def expressions() -> dict[str, str]:
    """Every query in the rules and the dashboard, by where it stands."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = {f"rule {rule['alert']}": rule["expr"] for group in groups for rule in group["rules"]}
    for panel in json.loads((MONITORING / "postroom.dashboard.json").read_text())["panels"]:
        found |= {f"panel {panel['title']} {one['refId']}": one["expr"] for one in panel["targets"]}
    return found


@pytest.mark.sqlite_only
def test_rules_and_dashboard_ask_for_what_is_exported(house: House) -> None:
    """Each name in each query; and each figure but the version is in a rule or on the dashboard."""
    told = house.http.get("/metrics", headers=OPEN_METRICS).text
    families = read(told)
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",), "info": ("_info",)}
    exported = {family.name + end: family.name for family in families for end in suffixes[family.type]}
    used = set()
    for where, query in expressions().items():
        names = re.findall(r"\bpostroom_[a-z_]+", query)
        assert names or query.startswith("up{"), where
        for name in names:
            assert name in exported, f"{where}: {name} is not exported"
            used.add(exported[name])
    left_out = {family.name for family in families} - used
    assert left_out == {"postroom_build"}


def test_rules_say_what_to_do_and_the_dashboard_is_whole() -> None:
    """Each alert has a severity, a summary and an action; each panel a place of its own and a data source to choose."""
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
    board = json.loads((MONITORING / "postroom.dashboard.json").read_text())
    assert {"uid", "title", "schemaVersion", "templating", "time", "panels"} <= board.keys()
    places: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, panel["title"]
        assert place["x"] + place["w"] <= 24
        places |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_each_rule_has_a_test_that_sees_it_fire_and_one_that_does_not() -> None:
    """A rule that is never seen to fire may as well be misspelt. The words that people read are told in full."""
    rules = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    fires, rests = set(), set()
    for trial in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for look in trial["alert_rule_test"]:
            (fires if look["exp_alerts"] else rests).add(look["alertname"])
            for told in look["exp_alerts"]:
                assert told["exp_annotations"].keys() == {"summary", "action"}
                assert told["exp_labels"]["severity"] == rules[look["alertname"]]["labels"]["severity"]
    assert fires == rests == rules.keys()


@pytest.mark.skipif(not PROMTOOL, reason="promtool (Debian: prometheus) is not installed")
def test_prometheus_own_tool_takes_the_rules() -> None:
    """`promtool check rules`, and the rules' own tests: when each fires and when not."""
    for command in (["check", "rules", RULES.name], ["test", "rules", RULES_TEST.name]):
        said = subprocess.run([PROMTOOL, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
