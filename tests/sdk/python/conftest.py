"""Where the gateway is, and boto3 clients for it. The harness is tests/it/sdk.rs."""

import os
from dataclasses import dataclass

import boto3
import botocore
import pytest
from botocore.config import Config

REGION = "us-east-1"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
PROFILE_ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"


@dataclass(frozen=True)
class World:
    plain: str  # http://, HTTP/1.1 and h2c
    tls: str  # https://, under the CA below
    anonymous: str  # http://, a gateway that asks nobody who they are
    ca: str  # PEM file
    token: str  # JWT of the tenant `demo`
    expired: str  # the same, past its `exp`
    limited: str  # JWT of a user who may send one request a second, burst 1
    metered: str  # JWT of a tenant that may use 10,000 tokens a day
    paced: str  # JWT of a tenant that may use 10,000 tokens a second, 2,000 at once
    brief: str  # JWT of a tenant whose streams end after 40 tokens
    spent: str  # JWT of a tenant whose quota is spent: each client calls with it once, and tests/it/sdk.rs counts what came of that
    stopped: str  # JWT of a tenant that an operator stopped
    issued_plain: str  # http://, a gateway that knows issued keys
    issued_tls: str  # the same, https://
    api_key: str  # issued for the tenant `demo`
    access_key_id: str
    secret_access_key: str


@pytest.fixture(scope="session")
def world() -> World:
    names = {
        "plain": "PLAIN_URL",
        "tls": "TLS_URL",
        "anonymous": "ANONYMOUS_URL",
        "ca": "CA",
        "token": "TOKEN",
        "expired": "EXPIRED_TOKEN",
        "limited": "LIMITED_TOKEN",
        "metered": "METERED_TOKEN",
        "paced": "PACED_TOKEN",
        "brief": "BRIEF_TOKEN",
        "spent": "SPENT_TOKEN",
        "stopped": "STOPPED_TOKEN",
        "issued_plain": "ISSUED_PLAIN_URL",
        "issued_tls": "ISSUED_TLS_URL",
        "api_key": "API_KEY",
        "access_key_id": "ACCESS_KEY_ID",
        "secret_access_key": "SECRET_ACCESS_KEY",
    }
    return World(**{field: os.environ[f"TOLLGATE_{name}"].rstrip("/") for field, name in names.items()})


def model(*faults: str) -> str:
    """A model id that asks the emulator for faults (src/emulator/faults.rs)."""
    return f"anthropic.claude-emulator.{'.'.join(faults)}:0"


def says(text: str) -> list:
    return [{"role": "user", "content": [{"text": text}]}]


def service_url(base: str, service: str) -> str:
    """The endpoint of `service`: a path prefix where the path alone does not name the service."""
    return base if service in ("bedrock", "bedrock-runtime") else f"{base}/{service}"


# The four ways in which boto3 gets through, none of which touches its code. Each is a function of (monkeypatch, world, service, config).


def bearer_over_tls(monkeypatch, world, service, **config):
    """Three environment variables. boto3 sends a bearer token over TLS only, and unasked to two services only."""
    token = config.pop("token", world.token)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK_AGENTCORE", token)  # the variable has the signing name
    monkeypatch.setenv("AWS_CA_BUNDLE", world.ca)
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}", service_url(world.tls, service))
    if service not in ("bedrock", "bedrock-runtime"):
        config["signature_version"] = "bearer"
    return boto3.Session(region_name=REGION).client(service, config=Config(**config))


def unsigned_with_headers(monkeypatch, world, service, **config):
    """As the clients of AWS's sample gateway: no signature, and a hook that sets two headers."""
    token = config.pop("token", world.token)
    client = boto3.Session(region_name=REGION).client(
        service, endpoint_url=world.plain, config=Config(signature_version=botocore.UNSIGNED, **config)
    )

    def hook(params, **_):
        params["headers"]["aws-endpoint-prefix"] = client.meta.service_model.endpoint_prefix
        if token:
            params["headers"]["Authorization"] = f"Bearer {token}"

    client.meta.events.register("before-call.*.*", hook)
    return client


def dummy_signature_with_token(monkeypatch, world, service, **config):
    """A signature by keys that mean nothing, and the token in a header of its own."""
    token = config.pop("token", world.token)
    client = dummy_signature(service, service_url(world.plain, service), **config)
    client.meta.events.register("before-sign.*.*", lambda request, **_: request.headers.add_header("x-tollgate-token", token))
    return client


def dummy_signature_to_anonymous(monkeypatch, world, service, **config):
    """A signature by keys that mean nothing, to a gateway that asks nobody who they are."""
    return dummy_signature(service, service_url(world.anonymous, service), **config)


def dummy_signature(service, url, **config):
    session = boto3.Session(aws_access_key_id="AKIADUMMYDUMMYDUMMY1", aws_secret_access_key="dummy", region_name=REGION)
    return session.client(service, endpoint_url=url, config=Config(**config))


WAYS = [bearer_over_tls, unsigned_with_headers, dummy_signature_with_token, dummy_signature_to_anonymous]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def connect(request, monkeypatch, world):
    """`connect(service, **config)`: a client of `service`, once for each way in."""
    return lambda service, **config: request.param(monkeypatch, world, service, **config)


@pytest.fixture
def runtime(monkeypatch, world):
    """bedrock-runtime, the way that needs no code. Its own keywords are botocore's Config and `token`."""
    return lambda **config: bearer_over_tls(monkeypatch, world, "bedrock-runtime", **config)
