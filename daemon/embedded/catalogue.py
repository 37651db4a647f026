"""The models whose weights Postroom knows how to bring, with what each is and what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import Permanent

MIB = 1024 * 1024
_HASH_LISTS = Path(__file__).with_name("weights")


class UnknownModel(Permanent):
    """A model name for which there are no weights."""


@dataclass(frozen=True)
class Weights:
    """One model file, the parts it comes in, and what it takes to run it."""

    name: str
    """The name by which a request asks for it, as Ollama would write it: `qwen2.5-coder:1.5b`."""
    file: str
    """Name of the GGUF file in the cache folder."""
    size: int
    """Bytes of the GGUF file."""
    sha256: str
    """SHA-256 of the GGUF file, in hex."""
    hash_list: Path
    """pip requirements with hashes, one part a line, in joining order."""
    family: str
    """Model family as GGUF metadata names the architecture."""
    parameters: str
    """Number of parameters, as a person reads it."""
    quantization: str
    """How the numbers are stored."""
    trained_context: int
    """Longest context (tokens) that the model was trained for."""
    kv_bytes_per_token: int
    """Memory (bytes) that one token of context takes in the engine's cache, at 16 bits a number."""
    overhead: int
    """Memory (bytes) that the engine needs beyond the file and the cache: measured."""


DEFAULT_MODEL = "qwen2.5-coder:1.5b"
SMALL_MODEL = "qwen2.5-coder:0.5b"

CATALOGUE: dict[str, Weights] = {
    DEFAULT_MODEL: Weights(
        name=DEFAULT_MODEL,
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        hash_list=_HASH_LISTS / "qwen2.5-coder-1.5b.txt",
        family="qwen2",
        parameters="1.5B",
        quantization="Q4_K_M",
        trained_context=32_768,
        kv_bytes_per_token=28 * 2 * 256 * 2,  # layers x (key, value) x (2 heads of 128) x 2 bytes
        overhead=1100 * MIB,
    ),
    SMALL_MODEL: Weights(
        name=SMALL_MODEL,
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        hash_list=_HASH_LISTS / "qwen2.5-coder-0.5b.txt",
        family="qwen2",
        parameters="0.5B",
        quantization="Q4_K_M",
        trained_context=32_768,
        kv_bytes_per_token=24 * 2 * 128 * 2,
        overhead=400 * MIB,
    ),
}


def find(name: str) -> Weights:
    """Give the weights for a model name.

    Raises UnknownModel with the names that are known.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        known = " or ".join(CATALOGUE)
        raise UnknownModel(f"there are no weights for the model {name!r}; write {known}") from None
