"""Django OAuth Toolkit as an authorization server that answers plain RFC 7662, for the tests beside it.

Usage: server.py CONFIGURATION.json

CONFIGURATION.json has `clients`, which may use the client credentials grant, each with `client_id` and
`client_secret`, and `users`, names of people who all have the password `password` and to whom the client named `app`
gets tokens. The port is chosen by the kernel and written to standard output as one line of JSON; the server ends when
its standard input does.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import django
import waitress
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

configuration = json.loads(Path(sys.argv[1]).read_text())
database = tempfile.TemporaryDirectory(prefix="phantom-oauth-toolkit-")

settings.configure(
    SECRET_KEY="of no worth",
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{database.name}/db.sqlite3"}},
    # Tables as the models have them, without the history that led to them.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "oauth2_provider": None},
    # Slow hashes protect passwords that are worth something.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "Read", "write": "Write", "introspection": "Ask about tokens"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": 600,
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from oauth2_provider.models import Application  # noqa: E402
from oauth2_provider.urls import base_urlpatterns, metadata_urlpatterns  # noqa: E402

urlpatterns = [path("", include((metadata_urlpatterns + base_urlpatterns, "oauth2_provider")))]

call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
for name in configuration["users"]:
    User.objects.create_user(name, password="password")
for client in configuration["clients"]:
    Application.objects.create(
        name=client["client_id"],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=(
            Application.GRANT_PASSWORD if client["client_id"] == "app" else Application.GRANT_CLIENT_CREDENTIALS
        ),
        **client,
    )

server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=4)
threading.Thread(target=server.run, daemon=True).start()
print(json.dumps({"port": server.effective_port}), flush=True)
sys.stdin.read()
database.cleanup()
os._exit(0)
