from __future__ import annotations

import pytest

from reconciler.model.hiding import hide, hide_in_command, is_secret_name


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD", "PGPASSWORD", "passwd", "MYSQL_PWD", "GITHUB_TOKEN", "client-secret", "API_KEY",
        "apikey", "AWS_ACCESS_KEY_ID", "SIGNING_KEY", "DATABASE_URL", "BROKER_URI", "SENTRY_DSN",
        "BASIC_AUTH", "AUTHORIZATION", "PRIVATE_KEY", "PASSWORD_SALT", "requirepass",
    ],
)  # fmt: skip
def test_a_name_that_announces_a_secret_hides_its_value(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "HOME", "PWD", "OLDPWD", "AUTHOR", "COMPASS", "BYPASS_CACHE", "PASSENGER_PORT", "max-passes",
        "TOKENIZER", "no-auth", "DB_PASSWORD_FILE", "token-path", "SECRETS_DIR", "KEYBOARD", "URL",
    ],
)  # fmt: skip
def test_a_harmless_name_hides_nothing(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("redis-server", "--requirepass", "hunter2"), "redis-server --requirepass (hidden)"),
        (("psql", "--password=hunter2", "-h", "db"), "psql --password=(hidden) -h db"),
        (("env", "TOKEN=hunter2", "serve"), "env TOKEN=(hidden) serve"),
        (("serve", "amqp://guest:hunter2@mq:5672/"), "serve amqp://guest:(hidden)@mq:5672/"),
        (("sh", "-c", "PGPASSWORD=hunter2 psql -h db"), "sh -c PGPASSWORD=(hidden) psql -h db"),
        (("sh", "-c", "vault --token hunter2 get"), "sh -c vault --token (hidden) get"),
        (("serve", "--no-auth", "app.py"), "serve --no-auth app.py"),
        (("serve", "--token-file", "/run/token"), "serve --token-file /run/token"),
        (("serve", "--token", "--port", "80"), "serve --token --port 80"),
        (("gunicorn", "passwords:app", "auth.py"), "gunicorn passwords:app auth.py"),
    ],
)
def test_a_command_is_shown_without_its_passwords(words: tuple[str, ...], shown: str) -> None:
    assert " ".join(hide_in_command(words)) == shown


def test_text_keeps_everything_but_its_secrets() -> None:
    text = "cannot reach http://a:hunter2@b/?page=2 with secret=hunter2, port=80"
    assert hide(text) == "cannot reach http://a:(hidden)@b/?page=2 with secret=(hidden), port=80"
