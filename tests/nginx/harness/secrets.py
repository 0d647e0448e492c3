"""Secrets that must not appear in a log.

Every token, JWT and client secret of a test is registered in a `Secrets`. When the test ends, nginx's error log is
searched for them.
"""

import base64
import os
import re
import secrets as random
import subprocess
import tempfile
import threading
import urllib.parse

# nginx's own debug log prints the headers that it reads and sends, and what is asked for; that is the operator's choice
# and not ours. (Tests put JWTs into headers of answers, and tokens into queries.)
_NGINX_HEADER_DUMPS = (
    "http header:",
    "http2 header:",
    "http3 ",
    "http2 http header:",
    "http2 frame header",
    "http proxy header",
    "grpc header:",
    "http script var:",
    "http script copy:",
    "http upstream header",
    "http alloc large header",
    "http large header",
    "http2 output header",
    "HTTP/1.1 ",
    "http request line:",
    "http args:",
    "http uri:",
    "http finalize request:",
    "http output filter ",
    "http copy filter:",
    "http postpone filter ",
    "http map:",
    "http regex set ",
    "http script capture:",
    "fastcgi param:",
    "http cache key:",
    "http2 table add:",
    "http2 request line:",
    # The rewrite module, which calls it a notice and writes it at debug level only.
    '"bearer +(',
    '"^/',
    "rewritten data:",
)

_RECORD = re.compile(r"^(?=\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[)", re.MULTILINE)
_PREFIX = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] \d+#\d+: (?:\*\d+ )?")


class Secrets:
    """The secrets of one test. Safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._known = set()

    def add(self, text):
        """Remembers `text` and gives it back. Anything under 12 bytes would be found by chance and is left out."""
        if isinstance(text, bytes):
            text = text.decode("latin-1")
        if len(text) >= 12:
            with self._lock:
                self._known.add(text)
        return text

    def add_jwt(self, jwt):
        """Remembers a JWT and its signature, which alone would already be too much."""
        self.add(jwt)
        self.add(jwt.rpartition(".")[2])
        return jwt

    def add_client(self, client_id, secret):
        """Remembers a client secret in every shape in which it travels."""
        self.add(secret)
        quote = urllib.parse.quote_plus
        self.add(quote(secret))
        self.add(base64.b64encode(f"{client_id}:{secret}".encode()).decode())
        self.add(base64.b64encode(f"{quote(client_id)}:{quote(secret)}".encode()).decode())
        return secret

    def token(self, prefix="tok"):
        """A fresh opaque token."""
        return self.add(f"{prefix}-{random.token_hex(16)}")

    def found_in(self, text):
        """Those secrets that `text` shows."""
        with self._lock:
            known = sorted(self._known)
        if len(known) * len(text) < 10**9:
            return [secret for secret in known if secret in text]
        # Thousands in a debug log of some hundred megabytes: grep looks for all of them at once. A line is a pattern.
        found = {secret for secret in known if "\n" in secret and secret in text}
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as patterns:
            patterns.write("".join(f"{secret}\n" for secret in known if "\n" not in secret))
            patterns.flush()
            done = subprocess.run(
                ["grep", "--text", "--only-matching", "--fixed-strings", f"--file={patterns.name}"],
                input=text.encode(), capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"},
            )
        assert done.returncode in (0, 1), done.stderr
        return sorted(found | set(done.stdout.decode(errors="replace").splitlines()))


def without_header_dumps(log):
    """The records of a debug log that are not nginx's own dumps of headers."""
    kept = []
    for record in _RECORD.split(log):
        message = _PREFIX.sub("", record, count=1)
        if not message.startswith(_NGINX_HEADER_DUMPS):
            kept.append(record)
    return "".join(kept)
