"""idpyoidc as an authorization server that exchanges opaque access tokens for JWTs (RFC 8693); for the tests here.

Usage: server.py CONFIGURATION.json

CONFIGURATION.json has the `gateway`, a client that gets JWTs, and the `app`, a client that gets opaque tokens, each
with `client_id` and `client_secret`; both may exchange. The port is chosen by the kernel and written to standard
output as one line of JSON. Each line of JSON on standard input is answered by another: `{"issue": {"scope": […]}}` by
an opaque token of a person who went to the app, and `{"revoke": "token"}` by nothing. The server ends when its
standard input does.
"""

import json
import os
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qsl

import waitress
from idpyoidc.message import Message
from idpyoidc.message.oauth2 import AuthorizationRequest, ResponseMessage
from idpyoidc.server import ASConfiguration, Server
from idpyoidc.server.authn_event import create_authn_event
from idpyoidc.server.authz import AuthzHandling
from idpyoidc.server.client_authn import verify_client
from idpyoidc.server.exception import ClientAuthenticationError
from idpyoidc.server.oauth2.server_metadata import ServerMetadata
from idpyoidc.server.oauth2.token import Token as TokenEndpoint
from idpyoidc.server.oauth2.token_helper import validate_token_exchange_policy
from idpyoidc.server.oauth2.token_helper.token_exchange import TokenExchangeHelper
from idpyoidc.server.session.token import TOKEN_TYPES_MAPPING
from idpyoidc.server.token import DefaultToken, Token
from idpyoidc.server.token.exception import UnknownToken
from idpyoidc.server.token.jwt_token import JWTToken
from idpyoidc.server.user_info import UserInfo

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"

# The library knows JWTs as access tokens only; an access token of ours that was exchanged is one (RFC 8693 §3).
TOKEN_TYPES_MAPPING[JWT] = "access_token"


class Exchange(TokenExchangeHelper):
    """The library's own, which also gives what is asked for as a JWT."""

    token_types_mapping = {**TokenExchangeHelper.token_types_mapping, JWT: "access_token"}


class ByClient(Token):
    """Access tokens: JWTs for the gateway, and opaque ones for all others."""

    def __init__(self, token_class, upstream_get, lifetime):
        super().__init__(token_class, lifetime)
        self.upstream_get = upstream_get
        self.opaque = DefaultToken(token_class, lifetime=lifetime)
        self.jwt = JWTToken(token_class, lifetime=lifetime, upstream_get=upstream_get)

    def __call__(self, session_id="", token_class="", usage_rules=None, **payload):
        client_id = self.upstream_get("context").session_manager.decrypt_branch_id(session_id)[1]
        kind = self.jwt if client_id == given["gateway"]["client_id"] else self.opaque
        return kind(session_id, token_class, usage_rules=usage_rules, **payload)

    def info(self, token):
        return (self.jwt if token.count(".") == 2 else self.opaque).info(token)

    def is_expired(self, token, when=0):
        return (self.jwt if token.count(".") == 2 else self.opaque).is_expired(token, when)


def configuration(issuer):
    return {
        "issuer": issuer,
        "httpc_params": {"verify": False},
        "preference": {"grant_types_supported": [EXCHANGE]},
        "key_conf": {"key_defs": [{"type": "EC", "crv": "P-256", "use": ["sig"]}], "uri_path": "jwks.json"},
        "endpoint": {
            "metadata": {"path": ".well-known/oauth-authorization-server", "class": ServerMetadata, "kwargs": {}},
            "token": {
                "path": "token",
                "class": TokenEndpoint,
                "kwargs": {
                    "client_authn_method": ["client_secret_basic", "client_secret_post"],
                    "grant_types_helpers": {
                        EXCHANGE: {
                            "class": Exchange,
                            "kwargs": {
                                "requested_token_types_supported": [ACCESS_TOKEN, JWT],
                                "policy": {
                                    "": {
                                        "function": validate_token_exchange_policy,
                                        "kwargs": {"audience": ["https://api.example"]},
                                    }
                                },
                            },
                        }
                    },
                },
            },
        },
        "authentication": {},
        "userinfo": {"class": UserInfo, "kwargs": {"db": {"alice": {"name": "Alice"}}}},
        "client_authn": verify_client,
        "authz": {
            "class": AuthzHandling,
            "kwargs": {
                "grant_config": {"usage_rules": {"access_token": {"supports_minting": ["access_token"]}}},
            },
        },
        "token_handler_args": {"token": {"class": f"{__name__}.ByClient", "kwargs": {"lifetime": 600}}},
        "scopes_to_claims": {"read": [], "write": []},
    }


given = json.loads(Path(sys.argv[1]).read_text())
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
port = listener.getsockname()[1]
server = Server(ASConfiguration(conf=configuration(f"http://localhost:{port}"), base_path="/"), cwd="/")
context = server.context
context.map_supported_to_preferred()
# One at a time: the library keeps its sessions in plain dictionaries.
lock = threading.Lock()

for client in given.values():
    context.cdb[client["client_id"]] = {
        **client,
        "client_salt": "salted",
        "redirect_uris": [("https://app.example/callback", None)],
        "response_types_supported": ["code"],
        "grant_types_supported": [EXCHANGE],
        "allowed_scopes": ["read", "write"],
    }


def issue(scope):
    """An opaque token of a person who signed in at the app."""
    manager = context.session_manager
    asked = AuthorizationRequest(
        client_id=given["app"]["client_id"],
        redirect_uri="https://app.example/callback",
        scope=scope,
        state="state",
        response_type="code",
    )
    session = manager.create_session(create_authn_event("alice"), asked, "alice", client_id=asked["client_id"])
    grant = context.authz(session, asked)
    token = grant.mint_token(
        session_id=session,
        context=context,
        token_class="access_token",
        token_handler=manager.token_handler["access_token"],
        usage_rules=grant.usage_rules["access_token"],
        scope=scope,
        token_type="Bearer",
        expires_in=600,
    )
    return token.value


def revoke(token):
    manager = context.session_manager
    branch = manager.get_session_info_by_token(token, grant=True, handler_key="access_token")["branch_id"]
    manager.find_token(branch, token).revoke()


def exchange(form, headers):
    endpoint = server.get_endpoint("token")
    try:
        request = endpoint.parse_request(dict(form), http_info={"headers": headers, "url": "", "method": "POST"})
    except (ClientAuthenticationError, UnknownToken) as refused:
        return 401, json.dumps({"error": "invalid_client", "error_description": str(refused)})
    answer = (
        request if isinstance(request, ResponseMessage) and "error" in request else endpoint.process_request(request)
    )
    if isinstance(answer, ResponseMessage) and "error" in answer:
        return (401 if answer["error"] == "invalid_client" else 400), answer.to_json()
    return 200, endpoint.do_response(request=request, **answer)["response"]


def application(environ, start_response):
    path = environ["PATH_INFO"]
    with lock:
        if path == "/token":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
            headers = {"authorization": environ["HTTP_AUTHORIZATION"]} if "HTTP_AUTHORIZATION" in environ else {}
            status, answer = exchange(parse_qsl(body), headers)
        elif path == "/.well-known/oauth-authorization-server":
            status, answer = 200, Message(**context.provider_info).to_json()
        elif path == "/jwks.json":
            status, answer = 200, json.dumps(server.keyjar.export_jwks())
        else:
            status, answer = 404, "{}"
    start_response(f"{status} Whatever", [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [answer.encode()]


web = waitress.create_server(application, sockets=[listener], threads=4)
threading.Thread(target=web.run, daemon=True).start()
print(json.dumps({"port": port}), flush=True)
for line in sys.stdin:
    words = json.loads(line)
    with lock:
        answer = {"token": issue(**words["issue"])} if "issue" in words else {}
        if "revoke" in words:
            revoke(words["revoke"])
    print(json.dumps(answer), flush=True)
os._exit(0)
