"""JSON lines between processes: one message a line, over a pipe or a socket."""

import json
from typing import Any

LONGEST = 2**26  # bytes of one message; no request or answer comes near it


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as one line."""
    return json.dumps(message).encode() + b"\n"


class Lines:
    """Puts what arrives in pieces together again."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that are complete now; what is no message is left out."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            self._rest = b""
        return [message for line in whole if (message := _decoded(line)) is not None]


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:  # of a process that was killed in the middle of a line
        return None
    return message if isinstance(message, dict) else None
