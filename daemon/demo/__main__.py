"""`python -m daemon.demo`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from daemon.demo.run import INPUTS, default_state, main

parser = argparse.ArgumentParser(
    prog="python -m daemon.demo", description="Sends Postroom real inputs and shows the answers."
)
parser.add_argument(
    "--once", action="store_true", help="end when all is answered; status 0 only if all came out as expected"
)
parser.add_argument("--inputs", type=Path, default=INPUTS, metavar="DIR", help="folder with one sub-folder per input")
parser.add_argument(
    "--state",
    type=Path,
    default=None,
    metavar="DIR",
    help=f"folder for everything it writes (default: {default_state()})",
)
parser.add_argument(
    "--timeout", type=float, default=1200, metavar="SECONDS", help="how long the jobs may take together"
)
options = parser.parse_args()
sys.exit(main(options.inputs, once=options.once, state=options.state, timeout=options.timeout))
