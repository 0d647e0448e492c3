# SPDX-License-Identifier: Apache-2.0
"""The settings of a provider and their types. Written by `cargo test --test settings`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Literal, Optional, Sequence, TypedDict, Union

Path = Union[str, "os.PathLike[str]"]
Paths = Union[str, "os.PathLike[str]", Sequence[str]]
Words = Union[str, Sequence[str]]
Number = Union[int, str]
Time = Union[timedelta, float, int, str]
Switch = Union[bool, str]


class ProviderSettings(TypedDict, total=False):
    """The settings of a provider: docs/c-api.md describes them. `None` leaves the default."""

    # The authorization server
    issuer: Optional[str]
    introspection_endpoint: Optional[Words]
    token_endpoint: Optional[str]
    jwks_uri: Optional[str]

    # Client authentication
    client_id: Optional[str]
    client_secret: Optional[str]
    client_secret_file: Optional[Path]
    bearer_token: Optional[str]
    bearer_token_file: Optional[Path]
    private_key: Optional[Path]
    private_key_id: Optional[str]
    private_key_alg: Optional[Literal["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]]
    assertion_audience: Optional[str]
    client_auth: Optional[Literal["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "bearer", "client_credentials", "none"]]
    client_credentials_scope: Optional[str]

    # The JWT
    dialect: Optional[Literal["jwt", "json", "signed", "exchange", "mint", "auto"]]
    jwt_claim: Optional[Words]
    forward: Optional[Literal["signed", "mint"]]
    verify: Optional[Switch]
    verify_audience: Optional[Words]
    token_type: Optional[Literal["access_token", "any"]]

    # Minting
    mint_key: Optional[Paths]
    mint_alg: Optional[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]]
    mint_issuer: Optional[str]
    mint_ttl: Optional[Time]
    mint_claims: Optional[Words]
    mint_claims_except: Optional[Words]

    # Token exchange
    exchange_audience: Optional[Words]
    exchange_resource: Optional[Words]
    exchange_scope: Optional[Words]
    exchange_token_type: Optional[Literal["jwt", "access_token"]]
    exchange_introspect: Optional[Switch]

    # Calls to the authorization server
    timeout: Optional[Time]
    connect_timeout: Optional[Time]
    retries: Optional[Number]
    max_concurrent: Optional[Number]
    max_waiting: Optional[Number]
    max_response_size: Optional[Number]
    max_fails: Optional[Number]
    fail_timeout: Optional[Time]

    # The cache
    cache_size: Optional[Number]
    cache_entries: Optional[Number]
    cache_ttl: Optional[Time]
    cache_inactive_ttl: Optional[Time]
    cache_control: Optional[Literal["max-age", "strict", "ignore"]]
    refresh_ahead: Optional[Number]
    stale_if_error: Optional[Time]

    # TLS and proxies
    ssl_trusted_certificate: Optional[Path]
    ssl_verify: Optional[Switch]
    ssl_certificate: Optional[Path]
    ssl_certificate_key: Optional[Path]
    ssl_name: Optional[str]
    ssl_protocols: Optional[Words]
    proxy: Optional[str]
