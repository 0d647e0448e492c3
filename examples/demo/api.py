#!/usr/bin/env python3
"""A tiny API for the demo: tells which Authorization header reached it, and what the JWT in it says.

A real API would verify the JWT with the keys at the authorization server's /jwks, and would never send it back.
"""

import argparse
import base64
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def decoded(part):
    """The JSON object in one part of a JWT, or None."""
    try:
        padded = part + "=" * (-len(part) % 4)
        return json.loads(base64.urlsafe_b64decode(padded))
    except ValueError:
        return None


class Api(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        received = {"path": self.path, "authorization": self.headers.get("Authorization")}
        scheme, _, credential = (received["authorization"] or "").partition(" ")
        parts = credential.split(".")
        if scheme == "Bearer" and len(parts) == 3:
            received["jwt_header"] = decoded(parts[0])
            received["jwt_claims"] = decoded(parts[1])
        body = json.dumps(received, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        """Says nothing: the demo has the word."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", help="write the port to this file once the API listens")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("127.0.0.1", options.port), Api) as server:
        if options.port_file:
            temporary = f"{options.port_file}.{os.getpid()}"
            with open(temporary, "w", encoding="ascii") as file:
                file.write(f"{server.server_port}\n")
            os.replace(temporary, options.port_file)
        server.serve_forever()


if __name__ == "__main__":
    main()
