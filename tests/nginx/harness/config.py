"""The configuration that most tests share."""

import secrets as random

PROVIDER = "acme"
CLIENT_ID = "gateway"


def provider(endpoint, secrets, name=PROVIDER, **keys):
    """A `phantom_token_provider` block. A key of value None leaves that directive out; a list is several arguments."""
    if "client_secret" not in keys and "client_secret_file" not in keys:
        keys["client_secret"] = secrets.add_client(CLIENT_ID, random.token_hex(16))
    settings = {"introspection_endpoint": endpoint, "client_id": CLIENT_ID, "timeout": "10s", **keys}

    def arguments(value):
        return " ".join(f'"{one}"' for one in (value if isinstance(value, list) else [value]))

    lines = [f"    {key} {arguments(value)};" for key, value in settings.items() if value is not None]
    return "\n".join([f"phantom_token_provider {name} {{", *lines, "}"])
