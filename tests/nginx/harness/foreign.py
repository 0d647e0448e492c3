"""Authorization servers that others wrote, run as programs, and a client for them."""

import base64
import http.client
import json
import ssl
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import trustme

# The host's name in certificates and URLs.
HOST = "localhost"


class Certificates:
    """An authority of its own, the certificate of a server, and one of a client, which names `client_name`."""

    client_name = "gateway.example"

    def __init__(self):
        self._authority = trustme.CA()
        self._server = self._authority.issue_cert(HOST, "127.0.0.1")
        self._client = self._authority.issue_cert(self.client_name)
        self.context = ssl.create_default_context()
        self._authority.configure_trust(self.context)

    @property
    def authority(self):
        return self._authority.cert_pem.bytes().decode()

    @staticmethod
    def _chain(leaf):
        return "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems)

    @property
    def server(self):
        """Key and certificates of the server, and who has to have signed those of clients; all in PEM."""
        return {
            "key": self._server.private_key_pem.bytes().decode(),
            "certificate": self._chain(self._server),
            "authority": self.authority,
        }

    @property
    def client_certificate(self):
        return self._chain(self._client)

    @property
    def client_key(self):
        return self._client.private_key_pem.bytes().decode()

    def client_context(self):
        """A TLS context that trusts the server and has the client's certificate."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        self._client.configure_cert(context)
        return context


class ForeignServer:
    """A program that reads its configuration from a file of JSON, whose path is its last argument; says where it
    listens by a line of JSON with `port`; and ends when its standard input does. What else it prints is for people.
    """

    def __init__(self, command, configuration, cwd, tls=None):
        self.tls = tls
        self._dir = tempfile.TemporaryDirectory(prefix="phantom-foreign-")
        path = Path(self._dir.name) / "configuration.json"
        path.write_text(json.dumps(configuration))
        self._errors = Path(self._dir.name) / "stderr"
        with self._errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, str(path)], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
        self.port = self._read()["port"]

    def _read(self):
        while True:
            line = self.process.stdout.readline()
            assert line, f"the server has ended:\n{self._errors.read_text()}"
            if line.startswith(b"{"):
                return json.loads(line)

    def tell(self, **words):
        """Sends the program a line and waits for its answer."""
        self.process.stdin.write(f"{json.dumps(words)}\n".encode())
        self.process.stdin.flush()
        return self._read()

    @property
    def base(self):
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def call(self, path, form, basic=None, headers=None, tls=None):
        """Posts a form, as the client of `basic` (id and secret) if that is given; gives status and JSON."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **(headers or {})}
        if basic:
            pair = ":".join(urllib.parse.quote_plus(part) for part in basic)
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return self._request("POST", path, urllib.parse.urlencode(form), headers, tls)

    def get(self, path):
        """The JSON that is at a path."""
        status, body = self._request("GET", path)
        assert status == 200, body
        return body

    def _request(self, method, path, body=None, headers=None, tls=None):
        if self.tls:
            connection = http.client.HTTPSConnection(HOST, self.port, timeout=20, context=tls or self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if body else None
        finally:
            connection.close()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.process.stdout.close()
        self._dir.cleanup()
