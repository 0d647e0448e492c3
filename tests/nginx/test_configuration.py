"""Messages of `nginx -t` about configurations."""

import os
import re

import pytest

from harness.nginx import MODULE, Configuration

ENDPOINT = "introspection_endpoint http://127.0.0.1:1/introspect;"
CREDENTIALS = "client_id gateway; client_secret not-to-be-shown-0123;"
WHOLE = f"phantom_token_provider acme {{ {ENDPOINT} {CREDENTIALS} }}"


def provider(lines):
    return f"phantom_token_provider acme {{\n{lines}\n}}"


def location(lines):
    return f"{WHOLE}\nserver {{ listen @listen@; location / {{\n{lines}\n}} }}"


def zones(lines, keys=""):
    """Zones, and a provider that may name one."""
    return f"phantom_token_provider acme {{ {ENDPOINT} {CREDENTIALS}\n{keys}\n}}\n{lines}"


def purging(lines, before="phantom_token_zone tokens:1m;", keys=""):
    """A location that purges, or should."""
    return f"{zones(before, keys)}\nserver {{ listen @listen@; location = /purge {{\n{lines}\n}} }}"


# what is wrong: the configuration, with `#<` on the lines that the message may name, and words of the message.
WRONG = {
    "a provider that is not there": (location("phantom_token other; #<"), ["other"]),
    "a provider that is not there, in server": (
        f"{WHOLE}\nserver {{ listen @listen@;\nphantom_token other; #<\n}}",
        ["other"],
    ),
    "a provider that is not there, in http": (
        f"{WHOLE}\nphantom_token other; #<\nserver {{ listen @listen@; }}",
        ["other"],
    ),
    "a zone without a size": (zones("phantom_token_zone tokens; #<"), ["tokens", "size", "tokens:64m"]),
    "a zone without a name": (zones("phantom_token_zone :1m; #<"), ["name"]),
    "a zone called off": (zones("phantom_token_zone off:1m; #<"), ["off"]),
    "a zone of no size": (zones("phantom_token_zone tokens:; #<"), ["tokens", "size", "64m"]),
    "a zone of a size that is none": (zones("phantom_token_zone tokens:much; #<"), ["tokens", "much", "64m"]),
    "a zone of an unknown unit": (zones("phantom_token_zone tokens:64t; #<"), ["tokens", "64t", "64m"]),
    "a zone of a negative size": (zones("phantom_token_zone tokens:-64m; #<"), ["tokens", "-64m"]),
    "a zone of nothing": (zones("phantom_token_zone tokens:0; #<"), ["tokens", "too small", "256k"]),
    "a zone that is too small": (zones("phantom_token_zone tokens:255k; #<"), ["tokens", "too small", "255k", "256k"]),
    "a zone that is too large": (zones("phantom_token_zone tokens:8589934591g; #<"), ["tokens", "too large"]),
    "a zone larger than can be said": (zones("phantom_token_zone tokens:99999999999999999999g; #<"), ["tokens"]),
    "a zone without a word": (zones("phantom_token_zone; #<"), ["phantom_token_zone"]),
    "a zone with two words": (zones("phantom_token_zone tokens 1m; #<"), ["phantom_token_zone"]),
    "a zone in server": (f"{WHOLE}\nserver {{ listen @listen@;\nphantom_token_zone tokens:1m; #<\n}}", ["zone"]),
    "a zone twice": (
        zones("phantom_token_zone tokens:1m;\nphantom_token_zone tokens:2m; #<"),
        ["tokens", "already", "@dir@/nginx.conf:"],
    ),
    "a zone of the name of another module's": (
        zones("limit_req_zone $uri zone=tokens:1m rate=1r/s;\nphantom_token_zone tokens:1m; #<"),
        ["tokens", "already"],
    ),
    "a provider that may not choose between zones": (
        f"phantom_token_zone one:1m;\nphantom_token_zone two:1m;\n{WHOLE} #<",
        ["acme", "one, two", "cache_zone"],
    ),
    "a provider that may not choose between zones, which come after it": (
        f"{WHOLE} #<\nphantom_token_zone one:1m;\nphantom_token_zone two:1m;",
        ["acme", "one, two", "cache_zone"],
    ),
    "a zone that is not there": (
        zones("phantom_token_zone tokens:1m;", "cache_zone others; #<"),
        ["phantom_token_zone", "others"],
    ),
    "more providers than a zone has room for": (
        "phantom_token_zone tokens:1m; #<\n"
        + "".join(f"phantom_token_provider p{n} {{ {ENDPOINT} {CREDENTIALS} }}\n" for n in range(65)),
        ["tokens", "64", "65", "cache_zone"],
    ),
    "cache_zone without a word": (zones("", "cache_zone; #<"), ["cache_zone"]),
    "cache_zone with an empty word": (zones("", 'cache_zone ""; #<'), ["cache_zone"]),
    "cache_zone with two words": (zones("", "cache_zone one two; #<"), ["cache_zone", "one"]),
    "cache_zone twice": (
        zones("phantom_token_zone tokens:1m;", "cache_zone tokens;\ncache_zone off; #<"),
        ["cache_zone", "duplicate"],
    ),
    "a purge of a provider that is not there": (purging("phantom_token_purge other; #<"), ["other"]),
    "a purge of nobody": (purging("phantom_token_purge; #<"), ["phantom_token_purge"]),
    "a purge of an empty word": (purging('phantom_token_purge ""; #<'), ["phantom_token_purge"]),
    "a purge of off": (purging("phantom_token_purge off; #<"), ["phantom_token_purge", "provider"]),
    "a purge of two": (purging("phantom_token_purge acme acme; #<"), ["phantom_token_purge"]),
    "a purge twice": (purging("phantom_token_purge acme;\nphantom_token_purge acme; #<"), ["duplicate"]),
    "a purge without a zone": (
        purging("phantom_token_purge acme; #<", before=""),
        ["acme", "zone", "one worker", "phantom_token_zone"],
    ),
    "a purge of a provider that wants no zone": (
        purging("phantom_token_purge acme; #<", keys="cache_zone off;"),
        ["acme", "zone", "one worker", "cache_zone", "off"],
    ),
    "a purge in server": (
        f"{zones('phantom_token_zone tokens:1m;')}\nserver {{ listen @listen@;\nphantom_token_purge acme; #<\n}}",
        ["phantom_token_purge"],
    ),
    "a purge before another handler": (
        purging("phantom_token_purge acme; #<\nproxy_pass http://127.0.0.1:1;"),
        ["phantom_token_purge", "location"],
    ),
    "a purge after another handler that stays": (
        purging("stub_status;\nphantom_token_purge acme;\nempty_gif; } location /x { #<\n").replace(
            "phantom_token_purge acme;", "phantom_token_purge acme; #<"
        ),
        ["phantom_token_purge", "location"],
    ),
    "a phase that is none": (
        location("phantom_token_phase early; #<"),
        ["phantom_token_phase", "early", "access or preaccess"],
    ),
    "a phase twice": (
        location("phantom_token_phase access;\nphantom_token_phase preaccess; #<"),
        ["duplicate"],
    ),
    "an audience twice": (
        location("phantom_token_audience a;\nphantom_token_audience b; #<"),
        ["duplicate"],
    ),
    "an audience without a word": (
        location("phantom_token_audience; #<"),
        ["phantom_token_audience"],
    ),
    "an audience of an empty word": (
        location('phantom_token_audience ""; #<'),
        ['phantom_token_audience', 'empty'],
    ),
    "an issuer twice": (
        location("phantom_token_issuer a;\nphantom_token_issuer b; #<"),
        ["duplicate"],
    ),
    "a client twice": (
        location("phantom_token_client a;\nphantom_token_client b; #<"),
        ["duplicate"],
    ),
    "an acr with a space": (
        location('phantom_token_acr "a b"; #<'),
        ['phantom_token_acr', 'a b', 'spaces'],
    ),
    "an acr twice": (
        location("phantom_token_acr a;\nphantom_token_acr b; #<"),
        ["duplicate"],
    ),
    "a max_age that is no time": (
        location("phantom_token_max_age soon; #<"),
        ["phantom_token_max_age", "soon"],
    ),
    "a max_age twice": (
        location("phantom_token_max_age 1m;\nphantom_token_max_age 2m; #<"),
        ["duplicate"],
    ),
    "a required claim without a name": (
        location('phantom_token_require ""; #<'),
        ['phantom_token_require'],
    ),
    "a required claim with a dot at its end": (
        location("phantom_token_require a. b; #<"),
        ["phantom_token_require", "a."],
    ),
    "a regular expression that is none": (
        location("phantom_token_require a '~('; #<"),
        ["phantom_token_require", "regular expression"],
    ),
    "a regular expression that looks back": (
        location("phantom_token_require a '~(?<=x)y'; #<"),
        ['phantom_token_require', 'look-around'],
    ),
    "a required claim of no variable": (
        location("phantom_token_require a a$; #<"),
        ["invalid variable name"],
    ),
    "scopes that RFC 6749 does not allow": (
        location('phantom_token_scopes \'a\\"b\'; #<'),
        ['phantom_token_scopes'],
    ),
    "a sender constraint that is none": (
        location("phantom_token_sender_constraint on; #<"),
        ["phantom_token_sender_constraint", "enforce, require or ignore"],
    ),
    "a window that is too long": (
        location("phantom_token_dpop_window 1h; #<"),
        ["phantom_token_dpop_window", "1s to 10m"],
    ),
    "a nonce that is neither on nor off": (
        location("phantom_token_dpop_nonce yes; #<"),
        ["phantom_token_dpop_nonce", "on or off"],
    ),
    "the keys of a provider that signs nothing": (
        purging("phantom_token_jwks acme; #<"),
        ["acme", "signs nothing", "dialect mint", "mint_key"],
    ),
    "the keys of nobody": (purging('phantom_token_jwks ""; #<'), ["phantom_token_jwks"]),
    "keys where tokens are purged": (
        purging("phantom_token_purge acme;\nphantom_token_jwks acme; #<"),
        ["phantom_token_jwks", "phantom_token_purge", "location"],
    ),
    "phantom_token without a word": (location("phantom_token; #<"), ["phantom_token"]),
    "phantom_token with two words": (location("phantom_token acme acme; #<"), ["phantom_token"]),
    "phantom_token with an empty word": (location('phantom_token ""; #<'), ["phantom_token"]),
    "phantom_token twice": (location("phantom_token acme;\nphantom_token acme; #<"), ["duplicate"]),
    "a provider without an endpoint": (
        f"phantom_token_provider acme {{ #<\n{CREDENTIALS}\n}} #<",
        ["introspection_endpoint", "acme"],
    ),
    "an empty provider": ("phantom_token_provider acme { #<\n} #<", ["introspection_endpoint", "acme"]),
    "a provider without a name": ("phantom_token_provider { #<\n}", ["phantom_token_provider"]),
    "a provider with an empty name": (f'phantom_token_provider "" {{ #<\n{ENDPOINT} {CREDENTIALS}\n}} #<', ["name"]),
    "a provider called off": (f"phantom_token_provider off {{ #<\n{ENDPOINT} {CREDENTIALS}\n}} #<", ["off"]),
    "two providers of one name": (f"{WHOLE}\n{WHOLE} #<", ["duplicate|already|twice", "acme"]),
    "a provider in server": (f"server {{ listen @listen@;\n{WHOLE} #<\n}}", ["phantom_token_provider"]),
    "a provider in location": (
        f"server {{ listen @listen@; location / {{\n{WHOLE} #<\n}} }}",
        ["phantom_token_provider"],
    ),
    "an unknown key": (provider(f"{ENDPOINT} {CREDENTIALS}\nno_such_thing_at_all 1; #<"), ["no_such_thing_at_all"]),
    "a key with a slip": (
        provider(f"{CREDENTIALS}\nintrospection_endpont http://127.0.0.1:1/; #<"),
        ["introspection_endpont", "introspection_endpoint"],
    ),
    "another key with a slip": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nconect_timeout 1s; #<"),
        ["conect_timeout", "connect_timeout"],
    ),
    "a key twice": (
        provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout 1s;\ntimeout 2s; #<"),
        ["timeout", "duplicate|twice|already"],
    ),
    "a key without a value": (provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout; #<"), ["timeout"]),
    "a key with two values": (provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout 1s 2s; #<"), ["timeout"]),
    "a key with a block": (provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout {{ #<\n}} #<"), []),
    "a directive of another place": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nproxy_pass http://127.0.0.1; #<"),
        ["proxy_pass"],
    ),
    "a time that is none": (provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout soon; #<"), ["timeout", "soon"]),
    "a time of nothing": (provider(f"{ENDPOINT} {CREDENTIALS}\ntimeout 0; #<"), ["timeout"]),
    "a negative time": (provider(f"{ENDPOINT} {CREDENTIALS}\ncache_ttl -1s; #<"), ["cache_ttl", "-1s"]),
    "a time of an unknown unit": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nconnect_timeout 2parsec; #<"),
        ["connect_timeout"],
    ),
    "a time too large": (
        provider(f"{ENDPOINT} {CREDENTIALS}\ncache_ttl 99999999999999999999s; #<"),
        ["cache_ttl"],
    ),
    "a size that is none": (provider(f"{ENDPOINT} {CREDENTIALS}\ncache_size much; #<"), ["cache_size", "much"]),
    "a size too large": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nmax_response_size 99999999999999999999g; #<"),
        ["max_response_size"],
    ),
    "a number that is none": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nmax_concurrent many; #<"),
        ["max_concurrent", "many"],
    ),
    "a number of nothing": (provider(f"{ENDPOINT} {CREDENTIALS}\nmax_concurrent 0; #<"), ["max_concurrent"]),
    "a negative number": (provider(f"{ENDPOINT} {CREDENTIALS}\nretries -1; #<"), ["retries", "-1"]),
    "a switch that is none": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nssl_verify maybe; #<"),
        ["ssl_verify", "maybe", "on.*off"],
    ),
    "an unknown dialect": (provider(f"{ENDPOINT} {CREDENTIALS}\ndialect swiss; #<"), ["dialect", "swiss", "json"]),
    "an unknown way to authenticate": (
        provider(f"{ENDPOINT} {CREDENTIALS}\nclient_auth by_handshake; #<"),
        ["client_auth", "by_handshake", "client_secret_basic"],
    ),
    "an unknown cache_control": (
        provider(f"{ENDPOINT} {CREDENTIALS}\ncache_control some; #<"),
        ["cache_control", "some", "max-age"],
    ),
    "an endpoint of ftp": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint ftp://127.0.0.1/; #<"),
        ["introspection_endpoint", "https"],
    ),
    "an endpoint of no scheme": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint as.example/introspect; #<"),
        ["introspection_endpoint"],
    ),
    "an endpoint with credentials": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint http://user:not-to-be-shown-0123@127.0.0.1/; #<"),
        ["introspection_endpoint"],
    ),
    "an endpoint with a fragment": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint http://127.0.0.1/introspect#here; #<"),
        ["introspection_endpoint"],
    ),
    "an endpoint without a host": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint http:///introspect; #<"),
        ["introspection_endpoint"],
    ),
    "an endpoint of a port too large": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint http://127.0.0.1:70000/; #<"),
        ["introspection_endpoint"],
    ),
    "an empty endpoint": (provider(f'{CREDENTIALS}\nintrospection_endpoint ""; #<'), ["introspection_endpoint"]),
    "an endpoint with a variable": (
        provider(f"{CREDENTIALS}\nintrospection_endpoint http://$host/introspect; #<"),
        ["introspection_endpoint"],
    ),
    "an unreadable secret file": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} client_id a;\nclient_secret_file @dir@/nothing; #<\n}} #<",
        ["client_secret_file", "@dir@/nothing"],
    ),
    "a secret file that is a folder": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} client_id a;\nclient_secret_file @dir@; #<\n}} #<",
        ["client_secret_file"],
    ),
    "an empty secret file": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} client_id a;\nclient_secret_file @dir@/empty; #<\n}} #<",
        ["client_secret_file", "empty"],
    ),
    "a secret and a secret file": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} {CREDENTIALS}\nclient_secret_file @dir@/secret; #<\n}} #<",
        ["client_secret", "client_secret_file"],
    ),
    "a client without a secret": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT}\nclient_id a; #<\n}} #<",
        ["client_secret", "client_auth none"],
    ),
    "a secret without a client": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT}\nclient_secret not-to-be-shown-0123; #<\n}} #<",
        ["client_id"],
    ),
    "bearer without a token": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT}\nclient_auth bearer; #<\n}} #<",
        ["bearer_token"],
    ),
    "bearer with a client secret": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} {CREDENTIALS}\nclient_auth bearer; bearer_token not-to-be-shown-0123; #<\n}} #<",
        ["client_auth|client_secret|bearer_token"],
    ),
    "none with a client secret": (
        f"phantom_token_provider acme {{ #<\n{ENDPOINT} {CREDENTIALS}\nclient_auth none; #<\n}} #<",
        ["client_auth|client_secret"],
    ),
    "a bearer token that no header may hold": (
        f'phantom_token_provider acme {{ #<\n{ENDPOINT} client_auth bearer;\nbearer_token "not-to-be-shown-0123\n"; #<\n}} #<',
        ["bearer_token"],
    ),
    "a missing CA file": (
        f"phantom_token_provider acme {{ #<\n{CREDENTIALS} introspection_endpoint https://as.example/;\nssl_trusted_certificate @dir@/nothing; #<\n}} #<",
        ["ssl_trusted_certificate", "@dir@/nothing"],
    ),
    "a CA file that is no PEM": (
        f"phantom_token_provider acme {{ #<\n{CREDENTIALS} introspection_endpoint https://as.example/;\nssl_trusted_certificate @dir@/secret; #<\n}} #<",
        ["ssl_trusted_certificate"],
    ),
    "a CA file with a broken certificate": (
        f"phantom_token_provider acme {{ #<\n{CREDENTIALS} introspection_endpoint https://as.example/;\nssl_trusted_certificate @dir@/broken.pem; #<\n}} #<",
        ["ssl_trusted_certificate"],
    ),
    "a scope with a quote": (location("phantom_token acme;\nphantom_token_scope 'a\"b'; #<"), ["scope"]),
    "a scope with a backslash": (location("phantom_token acme;\nphantom_token_scope 'a\\\\b'; #<"), ["scope"]),
    "an empty scope": (location('phantom_token acme;\nphantom_token_scope ""; #<'), ["scope"]),
    "scopes with a letter that is not ASCII": (
        location("phantom_token acme;\nphantom_token_scopes 'lesen schließen'; #<"),
        ["scope"],
    ),
    "a realm with a control character": (location('phantom_token acme;\nphantom_token_realm "a\\nb"; #<'), ["realm"]),
    "an unknown preflight": (
        location("phantom_token acme;\nphantom_token_preflight perhaps; #<"),
        ["phantom_token_preflight", "perhaps"],
    ),
    "a realm twice": (
        location("phantom_token acme;\nphantom_token_realm a;\nphantom_token_realm b; #<"),
        ["duplicate"],
    ),
    "a source that is none": (location("phantom_token_source form; #<"), ["form", "cookie NAME"]),
    "a source without its name": (location("phantom_token_source authorization cookie; #<"), ["name", "cookie"]),
    "a source twice": (
        location("phantom_token_source cookie a;\nphantom_token_source query a cookie a; #<"),
        ["twice"],
    ),
    "a source that CGI takes for another": (
        location("phantom_token_source header X-A header x_a; #<"),
        ["twice"],
    ),
    "a header as source that is none": (location('phantom_token_source header "X A"; #<'), ["X A", "header"]),
    "a header as source that is the default": (
        location("phantom_token_source header authorization; #<"),
        ["authorization", "instead"],
    ),
    "a header as source that means something else": (
        location("phantom_token_source header Cookie; #<"),
        ["Cookie", "another"],
    ),
    "a cookie of no name": (location('phantom_token_source cookie "a=b"; #<'), ["a=b", "cookie"]),
    "a parameter of no name": (location('phantom_token_source query "a&b"; #<'), ["a&b", "parameter"]),
    "a way on that is none": (location("phantom_token_forward cookie a; #<"), ["header NAME"]),
    "a way on without a name": (location("phantom_token_forward header; #<"), ["header NAME"]),
    "two ways on": (
        location("phantom_token_forward authorization;\nphantom_token_forward header X-Jwt; #<"),
        ["duplicate"],
    ),
    **{
        f"a JWT in {name}": (location(f"phantom_token_forward header {name}; #<"), [name, "another header"])
        for name in ("Host", "content-length", "Transfer_Encoding", "Proxy-Connection", "Connection", "TE", "DPoP")
    },
    "a header that is no header": (location('phantom_token_set_header "X:Y" a; #<'), ["X:Y", "header"]),
    "a header that is the JWT's": (
        location("phantom_token_set_header Authorization a; #<"),
        ["Authorization", "phantom_token_forward"],
    ),
    "a header twice": (
        location("phantom_token_set_header X-A a;\nphantom_token_set_header x_a b; #<"),
        ["x_a", "twice"],
    ),
    "a header of two meanings": (
        location("phantom_token_forward header X-A;\nphantom_token_set_header X_A a; #<"),
        ["X_A", "phantom_token_forward", "another name"],
    ),
    "a header that is a source as well": (
        location("phantom_token_source header X-A;\nphantom_token_set_header X-A a; #<"),
        ["X-A", "phantom_token_source", "another name"],
    ),
    "a header with a control character": (
        location('phantom_token_set_header X-A "a\\tb"; #<'),
        ["control character"],
    ),
    "a choice of optional that is none": (location("phantom_token_optional maybe; #<"), ["maybe", "on or off"]),
    "a choice among none": (location("phantom_token $arg_a; #<"), ["names of the providers"]),
    "a choice among unknown ones": (location("phantom_token $arg_a acme\nother; #<"), ["other"]),
    "several providers without a choice": (location("phantom_token acme other; #<"), ["one name", "variable"]),
    **{
        f"a resource that is none, {name}": (location(f"phantom_token_resource '{name}'; #<"), ["https URL"])
        for name in ("api", "http://a.example", "https://", "https://a.example/#b", "https://a.example/ b")
    },
    "metadata of nothing": (location("phantom_token_resource_metadata; #<"), ["phantom_token_resource URL"]),
    "metadata of no provider": (
        location("phantom_token_resource https://a.example;\nphantom_token_resource_metadata; #<"),
        ["phantom_token NAME", "authorization_servers="],
    ),
    "metadata of no issuer": (
        location(
            "phantom_token acme; phantom_token_resource https://a.example;\nphantom_token_resource_metadata; #<"
        ),
        ["acme", "issuer", "authorization_servers="],
    ),
    "metadata with an unknown word": (
        location("phantom_token_resource_metadata scope=a; #<"),
        ["scope=a", "scopes="],
    ),
    "metadata with a word twice": (
        location("phantom_token_resource_metadata name=a name=b; #<"),
        ["name", "twice"],
    ),
    "return beside phantom_token": (
        location("phantom_token acme;\nreturn 200 hello; #<"),
        ['"return" answers before a token is looked at', '"phantom_token" beside it', "remove one of the two"],
    ),
    "return beside phantom_token in a nested location": (
        location("location /a {\n phantom_token acme; return 204; #<\n}"),
        ["return", "location of its own"],
    ),
    "return beside phantom_token in server": (
        f"{WHOLE}\nserver {{ listen @listen@; phantom_token acme;\nreturn 200; #<\n}}",
        ["return"],
    ),
    "metadata in server": (
        f"{WHOLE}\nserver {{ listen @listen@;\nphantom_token_resource_metadata; #<\n}}",
        ["phantom_token_resource_metadata"],
    ),
}

FILES = {
    "secret": "not-to-be-shown-0123\n",
    "open": "not-to-be-shown-0123\n",
    "empty": "\n",
    "keys.conf": f"{ENDPOINT}\n{CREDENTIALS}\n",
    "broken.pem": "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n",
}


@pytest.fixture
def check():
    """Writes a configuration and asks `nginx -t`: exit code, words, and the file that was checked."""
    assert MODULE.exists(), f"{MODULE} is missing: build it with `make module`"
    written = []

    def run(http):
        configuration = Configuration(http, files=FILES, quiet=True)
        written.append(configuration)
        code, words = configuration.check()
        return code, words, configuration

    yield run
    for configuration in written:
        configuration.remove()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_refused_with_file_line_and_mend(check, name):
    http, words = WRONG[name]
    code, said, configuration = check(http)
    assert code != 0, said
    lines = [line for line in said.splitlines() if "[emerg]" in line]
    assert len(lines) == 1, said
    where = re.search(r" in (\S+):(\d+)$", lines[0])
    assert where, f"no file and line: {lines[0]}"
    assert where[1] == str(configuration.path)
    marked = [n for n, line in enumerate(configuration.path.read_text().splitlines(), 1) if "#<" in line]
    assert int(where[2]) in marked, lines[0]
    for word in words:
        assert re.search(configuration.expand(word), lines[0]), f"{word!r} is not in: {lines[0]}"
    assert "not-to-be-shown" not in said
    assert "panicked" not in said


@pytest.mark.parametrize(
    "http",
    [
        WHOLE,
        f"{WHOLE} server {{ listen @listen@; phantom_token off; }}",
        f"server {{ listen @listen@; location / {{ phantom_token acme; }} }} {WHOLE}",
        provider(f"{ENDPOINT} client_auth none;"),
        provider(f"{ENDPOINT} client_id a; client_auth none;"),
        provider("include @dir@/keys.conf;"),
        provider(f"{ENDPOINT} client_auth bearer; bearer_token some-token-0123;"),
        provider(f"{ENDPOINT} client_auth bearer; bearer_token_file @dir@/secret;"),
        provider(f"{ENDPOINT} client_id a; client_secret_file @dir@/secret; client_auth client_secret_post;"),
        provider(
            f"{ENDPOINT} {CREDENTIALS} dialect json; jwt_claim inner; timeout 1500ms; connect_timeout 1s; retries 0;"
            "max_concurrent 10; max_waiting 100; max_response_size 128k; cache_size 1m; cache_entries 1000;"
            "cache_ttl 2m; cache_inactive_ttl 0; cache_control strict;"
        ),
        provider(f"introspection_endpoint https://as.example/introspect; {CREDENTIALS} ssl_verify on;"),
        provider(f"introspection_endpoint http://[::1]:8080/introspect; {CREDENTIALS}"),
        location("phantom_token acme; phantom_token_scope a; phantom_token_scope b:c/d; phantom_token_realm 'x y';"),
        location("phantom_token acme; phantom_token_scopes 'a b c'; phantom_token_preflight pass;"),
        zones("phantom_token_zone tokens:256k;"),
        zones("phantom_token_zone tokens:1g;"),
        f"phantom_token_zone tokens:64M; {WHOLE}",
        zones("phantom_token_zone one:1m; phantom_token_zone two:1m;", "cache_zone two;")
        + f"phantom_token_provider other {{ {ENDPOINT} {CREDENTIALS} cache_zone one; }}",
        location("phantom_token acme; phantom_token_source authorization cookie session; phantom_token_source query t;"),
        location("phantom_token acme; phantom_token_forward header X-Jwt; phantom_token_set_header X-A '';"),
        location("phantom_token $arg_a acme; phantom_token_set_header X-A $arg_a-$phantom_token_sub;"),
        purging("phantom_token_purge acme;"),
        purging("phantom_token_purge acme; allow 127.0.0.1; deny all; limit_except POST { deny all; }"),
        purging("phantom_token_purge acme; client_max_body_size 0; if ($arg_x) { set $y 1; }"),
    ],
    ids=lambda http: " ".join(http.split())[:60],
)
def test_a_right_configuration_is_accepted(check, http):
    code, said, _ = check(http)
    assert code == 0, said
    assert "[warn]" not in said
    assert "[emerg]" not in said


def test_certificates_that_are_not_verified_are_warned_of(check):
    code, said, _ = check(
        provider(f"introspection_endpoint https://as.example/introspect; {CREDENTIALS} ssl_verify off;")
    )
    assert code == 0, said
    warnings = [line for line in said.splitlines() if "[warn]" in line]
    assert len(warnings) == 1
    assert "ssl_verify" in warnings[0]
    assert "acme" in warnings[0]


def test_a_secret_that_travels_in_clear_to_another_host_is_warned_of(check):
    code, said, _ = check(provider(f"introspection_endpoint http://192.0.2.1/introspect; {CREDENTIALS}"))
    assert code == 0, said
    assert [line for line in said.splitlines() if "[warn]" in line and "acme" in line]


@pytest.mark.parametrize("key", ["client_id a; client_secret_file", "client_auth bearer; bearer_token_file"])
def test_a_secret_file_that_everybody_can_read_is_warned_of(check, key):
    code, said, _ = check(provider(f"{ENDPOINT} {key} @dir@/open;"))
    assert code == 0, said
    assert [line for line in said.splitlines() if "[warn]" in line and "acme" in line and "/open" in line]
    assert "not-to-be-shown" not in said


def test_a_secret_file_of_another_user_is_refused_where_nginx_is_not_root(check):
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    code, said, _ = check(provider(f"{ENDPOINT} client_id a; client_secret_file /etc/shadow;"))
    assert code != 0, said
    assert "client_secret_file" in said


@pytest.mark.parametrize("keys", ["", "cache_zone off;"])
def test_a_zone_that_no_provider_uses_is_warned_of(check, keys):
    block = f"phantom_token_provider acme {{ {ENDPOINT} {CREDENTIALS} {keys} }}" if keys else ""
    code, said, configuration = check(f"{block}\nphantom_token_zone tokens:1m; #<")
    assert code == 0, said
    (warning,) = [line for line in said.splitlines() if "[warn]" in line]
    assert "tokens" in warning
    marked = [n for n, line in enumerate(configuration.path.read_text().splitlines(), 1) if "#<" in line]
    assert warning.endswith(f" in {configuration.path}:{marked[0]}")


def test_a_check_contacts_nobody(check, ugly):
    code, said, _ = check(
        f"phantom_token_provider acme {{ introspection_endpoint {ugly.url}; {CREDENTIALS} }}"
        "server { listen @listen@; phantom_token acme; }"
    )
    assert code == 0, said
    assert ugly.connections == 0


# the warnings: the configuration, with `#<` on the line that the warning names, and words of it.
BEHIND = "proxy_pass http://127.0.0.1:1;"
STATUS = "location = /status {\nphantom_token_status; #<\n%s }"


def server(lines, listen="listen @listen@;", http=""):
    return f"{WHOLE} {http}\nserver {{ {listen}\n{lines}\n}}"


ADVICE = {
    "an answer where a token is wanted around it": (
        server("phantom_token acme; location /a {\nreturn 200; #<\n}"),
        ["return", "phantom_token off"],
    ),
    "an empty Authorization": (
        location(f'phantom_token acme; {BEHIND}\nproxy_set_header Authorization ""; #<'),
        ["proxy_set_header Authorization", "throws the JWT away", "phantom_token_forward"],
    ),
    "an Authorization of another": (
        server(
            f"phantom_token acme;\nproxy_set_header authorization 'Basic QQ=='; #<\nlocation / {{ {BEHIND} }} "
            f"location /a {{ {BEHIND} }}"
        ),
        ["proxy_set_header authorization", "throws the JWT away"],
    ),
    "an Authorization of another in if": (
        location(f"phantom_token acme; if ($arg_a) {{ {BEHIND} }}\nproxy_set_header Authorization x; #<"),
        ["throws the JWT away"],
    ),
    "an Authorization of another for gRPC": (
        location("phantom_token acme; grpc_pass grpc://127.0.0.1:1;\ngrpc_set_header Authorization x; #<"),
        ["grpc_set_header Authorization", "throws the JWT away"],
    ),
    "an Authorization of another for FastCGI": (
        location("phantom_token acme; fastcgi_pass 127.0.0.1:1;\nfastcgi_param HTTP_AUTHORIZATION ''; #<"),
        ["fastcgi_param HTTP_AUTHORIZATION", "throws the JWT away"],
    ),
    "an Authorization of another for uwsgi": (
        location("phantom_token acme; uwsgi_pass 127.0.0.1:1;\nuwsgi_param HTTP_AUTHORIZATION x; #<"),
        ["throws the JWT away"],
    ),
    "an Authorization of another for SCGI": (
        location("phantom_token acme; scgi_pass 127.0.0.1:1;\nscgi_param HTTP_AUTHORIZATION x; #<"),
        ["throws the JWT away"],
    ),
    "no headers of the client": (
        location(f"phantom_token acme; {BEHIND}\nproxy_pass_request_headers off; #<"),
        ["proxy_pass_request_headers off", "add .proxy_set_header Authorization .http_authorization;"],
    ),
    "a header of its own that is another's": (
        location(f"phantom_token acme; phantom_token_forward header X-Jwt; {BEHIND}\nproxy_set_header X-JWT a; #<"),
        ["proxy_set_header X-JWT"],
    ),
    "a status for everybody": (
        server(STATUS % "", listen="listen @listen@; listen @port:other@;"),
        ["phantom_token_status", "open to everybody", "deny all", "127.0.0.1"],
    ),
    "a purge for everybody": (
        purging("phantom_token_purge acme; #<").replace("listen @listen@", "listen *:@port:other@"),
        ["phantom_token_purge", "open to everybody", "deny all"],
    ),
    "a status with allow alone": (
        server(STATUS % "allow 127.0.0.1;", listen="listen *:@port:other@;"),
        ["phantom_token_status"],
    ),
    "a status where a token is wanted elsewhere": (
        server(f"phantom_token acme; {STATUS % 'phantom_token off;'}", listen="listen *:@port:other@;"),
        ["phantom_token_status"],
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_other_directives_do_is_warned_of_with_file_line_and_mend(check, name):
    http, words = ADVICE[name]
    code, said, configuration = check(http)
    assert code == 0, said
    (warning,) = [line for line in said.splitlines() if "[warn]" in line]
    (marked,) = [n for n, line in enumerate(configuration.path.read_text().splitlines(), 1) if "#<" in line]
    assert warning.endswith(f" in {configuration.path}:{marked}"), warning
    for word in words:
        assert re.search(word, warning), f"{word!r} is not in: {warning}"


@pytest.mark.parametrize(
    "http",
    [
        location("phantom_token acme; return 404;"),
        location("phantom_token acme; if ($request_method = OPTIONS) { return 204; }"),
        location("phantom_token off; return 200;"),
        server("phantom_token acme; location /a { phantom_token off; return 200; }"),
        server("phantom_token acme; location /a { internal; return 200; } location @a { return 200; }"),
        location(f"phantom_token acme; {BEHIND} proxy_set_header Authorization $http_authorization;"),
        location(f'phantom_token acme; {BEHIND} proxy_set_header Authorization "";').replace("acme;", "off;"),
        location(
            f'phantom_token acme; {BEHIND} proxy_set_header Authorization ""; phantom_token_forward header X-Jwt;'
        ),
        server(
            "phantom_token acme; proxy_set_header Authorization x;"
            f"location / {{ {BEHIND} proxy_set_header Host a; }}"
        ),
        location(
            f"phantom_token acme; {BEHIND} proxy_pass_request_headers off;"
            "proxy_set_header Authorization $http_authorization;"
        ),
        # Their credentials are for the authorization server.
        server(
            "phantom_token on; phantom_token_introspection_endpoint /i;"
            f"location /i {{ proxy_set_header Authorization 'Basic QQ=='; {BEHIND} }}"
        ),
        server(STATUS % "deny all;", listen="listen *:@port:other@;"),
        server(STATUS % "auth_basic a;", listen="listen *:@port:other@;"),
        server(STATUS % "phantom_token acme;", listen="listen *:@port:other@;"),
        server(f"allow 127.0.0.1; deny all; {STATUS % ''}", listen="listen *:@port:other@;"),
        server(f"phantom_token acme; {STATUS % ''}", listen="listen *:@port:other@;"),
        server(STATUS % "", listen="listen @listen@; listen unix:@dir@/socket;"),
        # Text that looks like a directive, but is not one.
        location(f"phantom_token acme; {BEHIND} proxy_set_header X-A 'a; return 200; \\'}}';"),
        location("phantom_token acme; # return 200;\n add_header X-A \"${uri} return 200;\";"),
    ],
    ids=lambda http: " ".join(http.split())[140:220],
)
def test_what_is_right_beside_other_directives_is_accepted(check, http):
    code, said, _ = check(http)
    assert code == 0, said
    assert "[warn]" not in said
