"""Settings of the server's database."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from headrace.settings.declaring import PositiveFloat, SecretText, Section, about


class SQLAlchemyTLSSettings(Section, frozen=True):
    """TLS to PostgreSQL."""

    enabled: Annotated[bool, about("Speak TLS with PostgreSQL.")] = False
    ca_file: Annotated[str | None, about("Certificates to trust.")] = None
    cert_file: Annotated[str | None, about("Our own certificate.")] = None
    key_file: Annotated[str | None, about("Key of our own certificate.")] = None
    check_hostname: Annotated[bool, about("The certificate must be for the host called.")] = True


class SQLAlchemyConnectArgsSettings(Section, frozen=True):
    """A connection to PostgreSQL."""

    application_name: Annotated[str | None, about("Name PostgreSQL shows for our connections.")] = None
    search_path: Annotated[str | None, about("Schemas in which tables are looked up.")] = None
    statement_cache_size: Annotated[int | None, about("Accepted for Prefect's sake, without effect.")] = None
    prepared_statement_cache_size: Annotated[int | None, about("Accepted for Prefect's sake, without effect.")] = None
    tls: SQLAlchemyTLSSettings = field(default_factory=SQLAlchemyTLSSettings)


class SQLAlchemySettings(Section, frozen=True):
    """The pool of connections."""

    connect_args: SQLAlchemyConnectArgsSettings = field(default_factory=SQLAlchemyConnectArgsSettings)
    pool_size: Annotated[int, about("Connections kept open.", "SQLALCHEMY_POOL_SIZE")] = 5
    pool_recycle: Annotated[int, about("Seconds after which a connection is opened anew.")] = 3600
    pool_timeout: Annotated[float | None, about("Seconds to wait for a free connection.")] = 30.0
    max_overflow: Annotated[int, about("Connections opened beyond those kept.", "SQLALCHEMY_MAX_OVERFLOW")] = 10


class ServerDatabaseSettings(Section, frozen=True):
    """The server's database."""

    sqlalchemy: SQLAlchemySettings = field(default_factory=SQLAlchemySettings)
    connection_url: Annotated[
        SecretText | None,
        about(
            "URL of the database; headrace.db in home when neither it nor a host is set.",
            "API_DATABASE_CONNECTION_URL",
            secret=True,
        ),
    ] = None
    driver: Annotated[
        str | None, about("Kind of database, when no URL is set: postgresql or sqlite.", "API_DATABASE_DRIVER")
    ] = None
    host: Annotated[str | None, about("Host of the database, when no URL is set.", "API_DATABASE_HOST")] = None
    port: Annotated[int | None, about("Port of the database, when no URL is set.", "API_DATABASE_PORT")] = None
    user: Annotated[str | None, about("User of the database, when no URL is set.", "API_DATABASE_USER")] = None
    name: Annotated[str | None, about("Name or file of the database without a URL.", "API_DATABASE_NAME")] = None
    password: Annotated[
        SecretText | None,
        about(
            "Password of the database; ${PREFECT_SERVER_DATABASE_PASSWORD} in the URL stands for it.",
            "API_DATABASE_PASSWORD",
            secret=True,
        ),
    ] = None
    echo: Annotated[bool, about("Log each statement.", "API_DATABASE_ECHO")] = False
    migrate_on_start: Annotated[
        bool, about("Bring the schema up to date at start.", "API_DATABASE_MIGRATE_ON_START")
    ] = True
    timeout: Annotated[float | None, about("Seconds a statement may take.", "API_DATABASE_TIMEOUT")] = 10.0
    connection_timeout: Annotated[
        float | None, about("Seconds to wait for the database to answer.", "API_DATABASE_CONNECTION_TIMEOUT")
    ] = 5.0
    migration_timeout: Annotated[PositiveFloat | None, about("Seconds a migration may take.")] = None
