"""The child process that holds the engine: llama.cpp from the xllamacpp wheel, listening on a Unix socket.

It is a process of its own because loading blocks the interpreter, because unloading must give all memory back, and
because a crash of native code must not take the API down. It reads one line of JSON with its settings, answers with
one line of JSON (`{"ready": true}` or `{"error": "..."}`), and ends when its standard input ends, so that it never
outlives its parent. Not meant to be started by hand.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def parameters(engine: Any, settings: dict[str, Any]) -> Any:
    """Turn our settings into the engine's parameters."""
    wanted = engine.CommonParams()
    wanted.model.path = settings["path"]
    wanted.hostnames = [settings["socket"]]
    wanted.n_parallel = settings["parallel"]
    wanted.n_ctx = settings["context"] * settings["parallel"]
    wanted.n_batch = wanted.n_ubatch = settings["batch"]
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = settings["threads"]
    wanted.cache_ram_mib = settings["prompt_cache_mib"]
    wanted.embedding = True  # completions still work; without it the embedding route refuses
    wanted.pooling_type = engine.llama_pooling_type.LLAMA_POOLING_TYPE_LAST  # the one that may span batches
    wanted.ctx_shift = False  # a text longer than the context ends with a reason instead of losing its start
    wanted.fit_params = False  # the context asked for, or an error; never a smaller one in silence
    wanted.ui = False
    wanted.verbosity = 1  # errors only
    return wanted


def main() -> None:
    """Load the model, say so, and serve until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    engine = importlib.import_module("xllamacpp")  # no type information in the wheel
    try:
        server = engine.Server(parameters(engine, settings))
    except Exception as error:  # whatever it was, the parent tells the client
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
        os._exit(1)
    print(json.dumps({"ready": bool(server.listening_address)}), flush=True)
    sys.stdin.read()
    os._exit(0)  # the engine's threads have nothing to save, and tearing them down takes seconds


if __name__ == "__main__":
    main()
