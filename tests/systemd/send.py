"""Runs inside the container: sends one mail or posts one webhook. `send.py mail ID SENDER SUBJECT`, `send.py hook SECRET BODY`."""

from __future__ import annotations

import http.client
import json
import smtplib
import sys


def mail(number: str, sender: str, subject: str) -> None:
    """To the SMTP socket; an exception when it is not answered with 250."""
    lines = [f"From: {sender}", "To: box@box.example", f"Subject: {subject}", f"Message-ID: {number}", "", "Hello.", ""]
    with smtplib.SMTP("127.0.0.1", 8025, timeout=60) as client:
        client.sendmail(sender, ["box@box.example"], "\r\n".join(lines))


def hook(secret: str, body: str) -> None:
    """Print the status of the answer and the job that it names."""
    connection = http.client.HTTPConnection("127.0.0.1", 8480, timeout=60)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    connection.request("POST", "/hooks/load", body, headers)
    answer = connection.getresponse()
    print(answer.status, json.loads(answer.read()).get("job", ""))


{"mail": mail, "hook": hook}[sys.argv[1]](*sys.argv[2:])
