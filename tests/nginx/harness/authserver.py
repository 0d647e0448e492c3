"""The example authorization server, run as a program, and a client for it."""

import base64
import hashlib
import http.client
import json
import os
import secrets as random
import ssl
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

from .nginx import ROOT
from .wait import until


def program():
    """The binary: PHANTOM_TOKEN_AS, or the newest that cargo has built."""
    named = os.environ.get("PHANTOM_TOKEN_AS")
    if named:
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for kind in ("release", "debug") if (path := target / kind / "authorization_server").exists()]
    assert built, "build the example authorization server first: cargo build -p authorization_server"
    return max(built, key=lambda path: path.stat().st_mtime)


class AuthorizationServer:
    """Runs until `stop`. Every token, JWT and secret that passes here becomes known to `secrets`."""

    def __init__(self, secrets, *flags, client_id="gateway", tls=None):
        self.secrets = secrets
        self.client_id = client_id
        self.client_secret = secrets.add_client(client_id, random.token_hex(16))
        self._dir = tempfile.TemporaryDirectory(prefix="phantom-as-")
        port_file = Path(self._dir.name) / "port"
        self._output = open(Path(self._dir.name) / "output", "w+b")  # noqa: SIM115
        self.tls = tls
        self.process = subprocess.Popen(
            [
                program(),
                *("--listen", "127.0.0.1:0", "--port-file", port_file),
                *("--client", f"{client_id}:{self.client_secret}"),
                *flags,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

        def read_port():
            if self.process.poll() is not None:
                self._output.seek(0)
                raise AssertionError(f"the authorization server ended: {self._output.read().decode()}")
            # The address may be written with the port or the port alone.
            return port_file.exists() and port_file.read_text().strip().rpartition(":")[2]

        self.port = int(until(read_port, "the authorization server listens"))

    @property
    def base(self):
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    def introspection_endpoint(self, **knobs):
        """The introspection endpoint's URL with test knobs."""
        query = f"?{urllib.parse.urlencode(knobs)}" if knobs else ""
        return f"{self.base}/introspect{query}"

    def call(self, method, path, form=None, body=None, headers=None):
        """One call; gives status and body."""
        if self.tls:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = dict(headers or {})
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            pair = f"{urllib.parse.quote_plus(self.client_id)}:{urllib.parse.quote_plus(self.client_secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def issue(self, **parameters):
        """An opaque token by the client credentials grant; `claims={…}` for claims of its JWT."""
        form = {"grant_type": "client_credentials"}
        for name, value in parameters.pop("claims", {}).items():
            form[f"claim.{name}"] = value
        form.update(parameters)
        status, body = self.call("POST", "/token", form=form)
        assert status == 200, body
        return self.secrets.add(json.loads(body)["access_token"])

    def revoke(self, token):
        status, body = self.call("POST", "/revoke", form={"token": token})
        assert status == 200, body

    def knobs(self, **knobs):
        """Sets the knobs of the whole server; without any, takes them back."""
        if knobs:
            status, body = self.call(
                "PUT", "/knobs", body=json.dumps(knobs), headers={"Content-Type": "application/json"}
            )
        else:
            status, body = self.call("DELETE", "/knobs")
        assert status in (200, 204), body

    def stats(self):
        status, body = self.call("GET", "/stats")
        assert status == 200, body
        return json.loads(body)

    def introspections(self, token=None):
        """How often the server was asked; about one token if given."""
        stats = self.stats()
        if token is None:
            return stats["introspections"]
        return stats["by_token"].get(hashlib.sha256(token.encode()).hexdigest(), 0)

    def jwks(self):
        status, body = self.call("GET", "/jwks")
        assert status == 200, body
        return json.loads(body)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._output.close()
        self._dir.cleanup()


def trusting(ca_file):
    """A TLS context that trusts one CA."""
    return ssl.create_default_context(cafile=str(ca_file))
