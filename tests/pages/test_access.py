"""Who may look at the pages and who may not, over real HTTP."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.passwords import hashed
from config.settings import Settings
from daemon.web.pages.ask import PREFIX
from tests.pages.browsing import HASH, USERS, Browser
from tests.pages.scenery import Desk, desk, web

MAIL = b"From: Ada <ada@sender.example>\r\nTo: office@harbourlane.example\r\nSubject: Hello\r\n\r\nPlease call me.\r\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, str]]:
    """A desk whose pages need a log-in, with one job."""
    with desk(tmp_path_factory.mktemp("guarded"), pages=USERS) as made, web(made) as url:
        made.mail("hello", MAIL)
        yield made, url


def test_a_browser_on_this_machine_needs_no_login(day: Desk, url: str) -> None:
    """Without users; the first address leads to the pages."""
    browser = Browser(url)
    assert browser.http.get("/", follow_redirects=True).status_code == 200
    assert "this machine" in browser.get("/jobs").text


@pytest.mark.parametrize(
    "header",
    [{"X-Forwarded-For": "192.0.2.1"}, {"Host": "rebound.example"}, {"Via": "1.1 proxy"}, {"Host": "192.0.2.7"}],
)
def test_nobody_else_sees_them_without_users(url: str, header: dict[str, str]) -> None:
    """A proxy's visitor, or a page whose name was made to resolve to loopback; and they are told what to do."""
    answer = Browser(url, **header).get("/jobs")
    assert answer.status_code == 403
    assert "[pages.users]" in answer.text


def test_a_public_address_without_users_is_no_way_in(tmp_path: Path) -> None:
    """public_url means that a proxy may stand in front: then loopback tells nothing."""
    with desk(tmp_path, web={"public_url": "https://post.example"}) as made, web(made) as url:
        assert Browser(url).get("/jobs").status_code == 403


def test_every_page_has_the_headers_that_keep_scripts_out(url: str) -> None:
    """No inline script or style, no frame around it, nothing kept by caches."""
    for path in ("/jobs", "/login", "/nowhere", "/jobs/none"):
        headers = Browser(url).get(path).headers
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_with_users_everybody_logs_in(guarded: tuple[Desk, str]) -> None:
    """One is led to the form and back to where one wanted to go; the session ends with the log-out, in every process."""
    made, url = guarded
    browser = Browser(url)
    asked = browser.get("/jobs?state=done")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/ui/login?next=%2Fui%2Fjobs%3Fstate%3Ddone"
    answer = browser.log_in("anna", next="/ui/jobs?state=done")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/jobs?state=done")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=lax" in answer.headers["set-cookie"]
    cookie = dict(browser.http.cookies)
    assert browser.get("/jobs").status_code == 200
    assert browser.post("/logout", "/jobs").status_code == 303
    browser.http.cookies.update(cookie)
    assert browser.get("/jobs").status_code == 303
    deeds = [(deed.who, deed.action) for _, deed in made.ledger.visitors.deeds(limit=2)]
    assert deeds == [("anna", "logged out"), ("anna", "logged in")]


@pytest.mark.parametrize(
    "following", ["https://evil.example/", "//evil.example", "/ui//evil.example", "/ui/\\evil", "/jobs"]
)
def test_a_login_leads_to_no_other_site(guarded: tuple[Desk, str], following: str) -> None:
    """Whatever `next` says."""
    answer = Browser(guarded[1]).log_in("vera", next=following)
    assert answer.headers["location"] == "/ui/"


def test_the_cookie_is_new_after_the_login_and_not_in_the_ledger(guarded: tuple[Desk, str]) -> None:
    """Whoever planted a cookie before knows nothing afterwards, nor does who reads the ledger."""
    made, url = guarded
    browser = Browser(url)
    browser.get("/login")
    before = browser.http.cookies["postroom"]
    browser.log_in("vera")
    after = browser.http.cookies["postroom"]
    assert before != after
    with sqlite3.connect(made.settings.state_dir / "ledger.db") as ledger:
        assert after not in str(ledger.execute("SELECT * FROM page_sessions").fetchall())


def test_roles_reach_as_far_as_they_say(guarded: tuple[Desk, str]) -> None:
    """A viewer changes nothing, be the form made by hand; an admin does."""
    made, url = guarded
    job = f"/jobs/{made.jobs['hello']}"
    vera, anna = Browser(url), Browser(url)
    vera.log_in("vera")
    anna.log_in("anna")
    assert "Run again" not in vera.get(job).text
    refused = vera.post(job, job, action="retry", stage="extract")
    assert refused.status_code == 403
    assert "admin" in refused.text
    answer = anna.post(job, job, action="retry", stage="extract")
    assert answer.status_code == 303
    assert made.job("hello").state.value == "extracting"
    assert ("anna", "retry", made.jobs["hello"]) in [
        (d.who, d.action, d.job_id) for _, d in made.ledger.visitors.deeds()
    ]


def test_a_form_from_elsewhere_does_nothing(guarded: tuple[Desk, str]) -> None:
    """Without the token, with another browser's, from another origin or site."""
    made, url = guarded
    job = f"/jobs/{made.jobs['hello']}"
    anna, other = Browser(url), Browser(url)
    anna.log_in("anna")
    other.log_in("anna")
    form = {"action": "cancel"}
    assert anna.http.post(PREFIX + job, data=form).status_code == 403
    assert anna.http.post(PREFIX + job, data={**form, "csrf": other.token(job)}).status_code == 403
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert anna.post(job, job, header, **form).status_code == 403
    assert made.job("hello").state.value != "cancelled"


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    """After ten wrong passwords for a name even the right one has to wait, and each is on record; others may log in."""
    with desk(tmp_path, pages=USERS) as made, web(made) as url:
        browser = Browser(url)
        token = browser.token("/login")
        tries = [
            browser.http.post("/ui/login", data={"csrf": token, "name": "anna", "password": str(n)}) for n in range(10)
        ]
        assert {answer.status_code for answer in tries} == {401}
        answer = browser.log_in("anna")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
        assert browser.log_in("ben").status_code == 303
        assert made.ledger.visitors.failed_logins(0, "anna", "") == (10, 0)


def test_a_changed_password_ends_the_session(tmp_path: Path) -> None:
    """So does taking the user out."""
    with desk(tmp_path, pages=USERS) as made:
        with web(made) as url:
            browser = Browser(url)
            browser.log_in("vera")
            cookie = browser.http.cookies["postroom"]
        for users in ({**USERS["users"], "vera": hashed("new")}, {"anna": HASH, "ben": HASH}):  # type: ignore[dict-item]
            values = {**made.settings.model_dump(), "pages": {**USERS, "users": users}}
            made.settings = Settings.model_validate(values)
            with web(made) as url:
                again = Browser(url)
                again.http.cookies.set("postroom", cookie)
                assert again.get("/jobs").status_code == 303


def test_a_trusted_proxy_names_its_visitors(tmp_path: Path) -> None:
    """Its header is believed, and nobody else's; roles come from the same lists."""
    pages = {"user_header": "X-Forwarded-User", "proxies": ["127.0.0.1"], "admins": ["carl"]}
    with desk(tmp_path / "a", pages=pages) as made, web(made) as url:
        assert "Audit" in Browser(url, **{"X-Forwarded-User": "carl"}).get("/jobs").text
        assert "Audit" not in Browser(url, **{"X-Forwarded-User": "dora"}).get("/jobs").text
        assert Browser(url).get("/jobs").status_code == 403
    with desk(tmp_path / "b", pages={**pages, "proxies": ["192.0.2.1"]}) as made, web(made) as url:
        assert Browser(url, **{"X-Forwarded-User": "carl"}).get("/jobs").status_code == 403


def test_over_https_the_cookie_stays_there(tmp_path: Path) -> None:
    """Secure, and bound to the host by its name."""
    with desk(tmp_path, pages=USERS, web={"public_url": "https://post.example"}) as made, web(made) as url:
        answer = Browser(url).get("/login")
        assert answer.headers["set-cookie"].startswith("__Host-postroom=")
        assert "Secure" in answer.headers["set-cookie"]


def test_hostile_requests_get_an_answer(url: str) -> None:
    """Odd parameters, odd paths and forms that are none; never a 500."""
    browser = Browser(url)
    for query in (
        "state=x",
        "before=9-",
        "before=%00",
        "q=%00%27",
        "since=0000-00-00",
        "label=%F0%9F%92%A9",
        "q=" + "a" * 3000,
    ):
        assert browser.get(f"/jobs?{query}").status_code == 200, query
    for path in ("/jobs/%2e%2e", "/jobs/" + "0" * 26, "/static/..%2f..%2fbase.html.j2", "/static/", "/jobs/x/raw"):
        assert browser.get(path).status_code == 404, path
    cookie = {"Content-Type": "multipart/form-data; boundary=x"}
    assert browser.http.post("/ui/jobs", content=b"--x\r\nbroken", headers=cookie).status_code in {400, 403}
    assert browser.http.post("/ui/jobs", content=b"a=1", headers={"Content-Type": "text/plain"}).status_code == 403
    assert browser.http.post("/ui/jobs", content=b"x" * 2_000_000).status_code == 413
    assert browser.http.put("/ui/jobs").status_code == 405
