"""boto3 gets through in each way that its users have, to each service that it knows."""

import json

import boto3
import botocore
import pytest
from botocore.config import Config
from conftest import HAIKU, REGION, bearer_over_tls, dummy_signature, says, unsigned_with_headers


def test_converse_and_a_stream_pass(connect):
    client = connect("bedrock-runtime")
    answer = client.converse(modelId=HAIKU, messages=says("one two three"))
    assert answer["output"]["message"]["content"][0]["text"] == "echo: one two three"
    assert answer["usage"]["inputTokens"] == 3
    stream = client.converse_stream(modelId=HAIKU, messages=says("one two three"))["stream"]
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in stream if "contentBlockDelta" in e) == "echo: one two three"


def test_the_control_plane_passes(connect):
    client = connect("bedrock")
    assert any(model["modelId"] for model in client.list_foundation_models()["modelSummaries"])
    assert any(profile["inferenceProfileId"] for profile in client.list_inference_profiles()["inferenceProfileSummaries"])


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "method", "path"),
    [
        ("bedrock-agent", "list_agents", {}, "POST", "/agents/"),
        ("bedrock-agent", "get_agent", {"agentId": "AGENT12345"}, "GET", "/agents/AGENT12345/"),
        ("bedrock-agent-runtime", "list_invocations", {"sessionIdentifier": "s-1"}, "POST", "/sessions/s-1/invocations/"),
        ("bedrock-agent-runtime", "create_session", {}, "PUT", "/sessions/"),
        ("bedrock-agentcore", "list_events", {"memoryId": "memory-1234567890", "sessionId": "s", "actorId": "team/alice"}, "POST", "/memories/memory-1234567890/actor/team%2Falice/sessions/s"),
    ],
)
def test_agents_pass_to_their_own_service(connect, service, operation, arguments, method, path):
    """The emulator echoes what it does not know; boto3 drops fields that are in no shape, so the echo is read before it is parsed."""
    client = connect(service)
    seen = {}
    client.meta.events.register("before-parse.*.*", lambda response_dict, **_: seen.update(json.loads(response_dict["body"])))
    answer = getattr(client, operation)(**arguments)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert seen["method"] == method
    assert seen["path"] == path, "the raw path goes upstream byte for byte, the trailing slash too, without what chose the service"
    headers = dict(seen["headers"])
    scope = headers["authorization"].split("Credential=")[1].split(",")[0]
    assert scope.split("/")[3:] == [client.meta.service_model.signing_name, "aws4_request"]
    assert not scope.startswith("AKIADUMMY"), "the gateway signs with its own key"
    assert not {"aws-endpoint-prefix", "x-tollgate-token"} & set(headers), "what is meant for the gateway stays there"


def test_the_runtime_url_takes_control_plane_calls_too(world, monkeypatch):
    """LangChain and Claude Code ask the runtime's URL for inference profiles."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", world.token)
    client = boto3.Session(region_name=REGION).client("bedrock", endpoint_url=world.tls, verify=world.ca)
    assert client.list_inference_profiles(typeEquals="SYSTEM_DEFINED")["inferenceProfileSummaries"]


def test_the_endpoint_prefix_header_may_be_in_any_case(world):
    client = boto3.client(
        "bedrock-runtime", endpoint_url=world.plain, region_name="", config=Config(signature_version=botocore.UNSIGNED)
    )

    def hook(params, **_):
        params["headers"] |= {"AWS-Endpoint-Prefix": "Bedrock-Runtime", "authorization": f"bearer {world.token}"}

    client.meta.events.register("before-call.*.*", hook)
    assert client.converse(modelId=HAIKU, messages=says("hi"))["usage"]["inputTokens"] == 1


@pytest.mark.parametrize("way", [bearer_over_tls, unsigned_with_headers], ids=lambda way: way.__name__)
def test_an_expired_token_is_refused_once(way, monkeypatch, world):
    client = way(monkeypatch, world, "bedrock-runtime", token=world.expired)
    refused_as_a_stranger(lambda: client.converse(modelId=HAIKU, messages=says("hi")))
    refused_as_a_stranger(lambda: client.converse_stream(modelId=HAIKU, messages=says("hi")))


def test_a_token_that_was_tampered_with_is_refused(runtime, world):
    header, payload, signature = world.token.split(".")
    forged = signature[:-6] + ("AAAAAA" if not signature.endswith("AAAAAA") else "BBBBBB")
    refused_as_a_stranger(lambda: runtime(token=f"{header}.{payload}.{forged}").converse(modelId=HAIKU, messages=says("hi")))


def test_no_token_is_refused(monkeypatch, world):
    client = unsigned_with_headers(monkeypatch, world, "bedrock-runtime", token="")
    refused_as_a_stranger(lambda: client.converse(modelId=HAIKU, messages=says("hi")))


def test_a_dummy_signature_alone_is_no_credential(world):
    client = dummy_signature("bedrock-runtime", world.plain)
    refused_as_a_stranger(lambda: client.converse(modelId=HAIKU, messages=says("hi")))


def refused_as_a_stranger(call):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call()
    answer = refused.value.response
    assert answer["Error"]["Code"] == "UnrecognizedClientException"
    assert answer["Error"]["Message"]
    meta = answer["ResponseMetadata"]
    assert meta["HTTPStatusCode"] == 401
    assert meta["RetryAttempts"] == 0
    assert meta["HTTPHeaders"]["www-authenticate"].startswith("Bearer")
    assert meta["RequestId"]
