"""`postroom`, killed at its first 202: the message is on disk, and nobody was told. Started by a test as a program."""

from __future__ import annotations

import os
import signal
from typing import Any

from daemon.cli import main
from daemon.web import server as web


def deadly(make_app: Any) -> Any:
    """`make_app`, whose application dies by kill -9 where it would start a 202."""

    def made(*arguments: Any, **options: Any) -> Any:
        inner = make_app(*arguments, **options)

        async def application(scope: Any, receive: Any, send: Any) -> None:
            async def telling(message: Any) -> None:
                if message.get("status") == 202:
                    os.kill(os.getpid(), signal.SIGKILL)
                await send(message)

            await inner(scope, receive, telling)

        return application

    return made


web.make_app = deadly(web.make_app)
main()
