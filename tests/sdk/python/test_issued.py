"""Keys that the gateway itself issued: an AWS credential in a profile, whose signature it verifies, and an API key wherever an SDK takes one."""

import json
import urllib.error
import urllib.request

import anthropic
import boto3
import botocore
import httpx2
import openai
import pytest
from botocore.config import Config
from conftest import HAIKU, PROFILE_ARN, REGION, says, service_url

ONE_TWO = {"max_tokens": 64, "messages": [{"role": "user", "content": "one two"}]}


@pytest.fixture(params=["plain", "tls"])
def url(request, world):
    return world.issued_plain if request.param == "plain" else world.issued_tls


@pytest.fixture
def profile(monkeypatch, tmp_path, world):
    """Everything that a stock SDK needs: a profile, and an endpoint URL."""
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[tollgate]\naws_access_key_id = {world.access_key_id}\naws_secret_access_key = {world.secret_access_key}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "tollgate")
    monkeypatch.setenv("AWS_CA_BUNDLE", world.ca)
    return lambda service, url, **config: boto3.Session(region_name="eu-west-3").client(
        service, endpoint_url=service_url(url, service), config=Config(**config)
    )


def signed_by(world, service, **keys):
    keys = {"aws_access_key_id": world.access_key_id, "aws_secret_access_key": world.secret_access_key} | keys
    return boto3.Session(region_name=REGION, **keys).client(service, endpoint_url=service_url(world.issued_plain, service))


@pytest.mark.parametrize("identifier", [HAIKU, PROFILE_ARN])
def test_a_profile_and_an_endpoint_url_are_enough(profile, url, identifier):
    client = profile("bedrock-runtime", url)
    answer = client.converse(modelId=identifier, messages=says("one two three"))
    assert answer["usage"]["inputTokens"] == 3
    stream = client.converse_stream(modelId=identifier, messages=says("one two three"))["stream"]
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in stream if "contentBlockDelta" in e) == "echo: one two three"
    invoked = client.invoke_model(modelId=identifier, body=json.dumps({"anthropic_version": "bedrock-2023-05-31", **ONE_TWO}))
    assert json.loads(invoked["body"].read())["usage"]["input_tokens"] == 2


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("bedrock", "list_foundation_models", {"byProvider": "a/b c+d"}),
        ("bedrock", "list_inference_profiles", {"typeEquals": "SYSTEM_DEFINED", "maxResults": 5, "nextToken": "a+b/c=="}),
        ("bedrock-agent", "list_agents", {}),
        ("bedrock-agent", "get_agent", {"agentId": "AGENT12345"}),
        ("bedrock-agent-runtime", "retrieve", {"knowledgeBaseId": "KB12345678", "retrievalQuery": {"text": "x"}}),
        ("bedrock-agent-runtime", "create_session", {}),
        ("bedrock-agentcore", "list_events", {"memoryId": "memory-1234567890", "sessionId": "s", "actorId": "team/alice"}),
        ("bedrock-agentcore-control", "list_agent_runtimes", {"maxResults": 3}),
        ("bedrock-data-automation", "list_data_automation_projects", {}),
        ("bedrock-data-automation-runtime", "get_data_automation_status", {"invocationArn": "arn:aws:bedrock:us-east-1:123456789012:data-automation-invocation/abc"}),
    ],
)
def test_every_service_passes_at_its_own_endpoint(profile, url, service, operation, arguments):
    assert getattr(profile(service, url), operation)(**arguments)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_large_body_and_a_presigned_url_pass(profile, url, world):
    words = 40_000
    answer = profile("bedrock-runtime", url).converse(modelId=HAIKU, messages=says("lorem " * words))
    assert answer["usage"]["inputTokens"] == words
    presigned = profile("bedrock", world.issued_plain).generate_presigned_url("list_foundation_models", {"byProvider": "a b"}, ExpiresIn=600)
    assert "modelSummaries" in json.load(urllib.request.urlopen(presigned))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(presigned.replace("byProvider=a", "byProvider=b"))
    assert refused.value.code == 403


def refused(call):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call()
    answer = refused.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    return answer["Error"]["Code"], answer["Error"]["Message"]


def test_a_wrong_secret_an_unknown_id_and_a_session_token_are_refused(world):
    def says_hi(**keys):
        return refused(lambda: signed_by(world, "bedrock-runtime", **keys).converse(modelId=HAIKU, messages=says("hi")))

    code, message = says_hi(aws_secret_access_key="another")
    assert code == "InvalidSignatureException"
    assert message.startswith("The request signature we calculated does not match the signature you provided.")
    code, message = says_hi(aws_access_key_id="AKIADUMMYDUMMYDUMMY1")
    assert (code, message) == ("UnrecognizedClientException", "The security token included in the request is invalid.")
    assert says_hi(aws_session_token="token")[0] == "UnrecognizedClientException"


def change(name, value):
    def hook(request, **_):
        request.headers[name] = value

    return hook


def body(request, **_):
    request.body = request.body.replace(b"hi", b"ho")


def path(request, **_):
    request.url = request.url.replace("haiku", "opus")


@pytest.mark.parametrize(
    "hook", [body, path, change("Content-Type", "text/plain"), change("X-Amz-Date", "20260101T000000Z"), change("X-Amz-Extra", "1")]
)
def test_what_is_changed_after_it_was_signed_is_refused(world, hook):
    client = signed_by(world, "bedrock-runtime")
    client.meta.events.register("before-send.*.*", hook)
    assert refused(lambda: client.converse(modelId=HAIKU, messages=says("hi")))[0] == "InvalidSignatureException"


def test_a_clock_that_is_wrong_is_told_so(world, monkeypatch):
    import datetime

    from botocore import auth

    late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=6)
    monkeypatch.setattr(auth, "get_current_datetime", lambda remove_tzinfo=True: late.replace(tzinfo=None) if remove_tzinfo else late)
    code, message = refused(lambda: signed_by(world, "bedrock-runtime").converse(modelId=HAIKU, messages=says("hi")))
    assert code == "InvalidSignatureException"
    assert message.startswith("Signature expired: the request was signed at ")
    assert message.endswith(" here: more than 5 minutes apart")


def test_anthropics_client_signs_its_way_in(world, url):
    import ssl

    def connect(secret):
        return anthropic.AnthropicBedrock(
            aws_access_key=world.access_key_id,
            aws_secret_key=secret,
            aws_region=REGION,
            base_url=url,
            http_client=anthropic.DefaultHttpxClient(verify=ssl.create_default_context(cafile=world.ca)),
        )

    for identifier in (HAIKU, PROFILE_ARN):
        assert connect(world.secret_access_key).messages.create(model=identifier, **ONE_TWO).usage.input_tokens == 2
    with pytest.raises(anthropic.PermissionDeniedError) as raised:
        connect("another").messages.create(model=HAIKU, **ONE_TWO)
    assert "InvalidSignatureException" in str(raised.value)


def test_an_api_key_is_what_any_sdk_takes_for_a_key(world, monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", world.api_key)
    client = boto3.Session(region_name=REGION).client("bedrock-runtime", endpoint_url=world.issued_tls, verify=world.ca)
    assert client.converse(modelId=HAIKU, messages=says("hi"))["usage"]["inputTokens"] == 1
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK")

    bedrock = anthropic.AnthropicBedrock(api_key=world.api_key, base_url=world.issued_plain, aws_region=REGION)
    assert bedrock.messages.create(model=HAIKU, **ONE_TWO).usage.input_tokens == 2
    # This one sends `x-api-key`.
    direct = anthropic.Anthropic(api_key=world.api_key, base_url=f"{world.issued_plain}/anthropic")
    assert direct.messages.create(model=HAIKU, **ONE_TWO).usage.input_tokens == 2
    chat = openai.OpenAI(api_key=world.api_key, base_url=f"{world.issued_plain}/openai/v1")
    assert chat.chat.completions.create(model="openai.gpt-oss-20b-1:0", messages=ONE_TWO["messages"]).usage.prompt_tokens == 2

    for key in (world.api_key[:-1], "tgk_" + "0" * 49, "sk-another"):
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(api_key=key, base_url=f"{world.issued_plain}/openai/v1").models.list()
        with pytest.raises(anthropic.AuthenticationError):
            anthropic.Anthropic(api_key=key, base_url=f"{world.issued_plain}/anthropic").messages.create(model=HAIKU, **ONE_TWO)


def test_a_signature_by_another_hand_does_not_hide_a_token(world):
    """The SDK signs with keys that mean nothing; the token, in a header of its own, is who it is."""
    client = signed_by(world, "bedrock-runtime", aws_access_key_id="AKIADUMMYDUMMYDUMMY1")
    client.meta.events.register("before-sign.*.*", lambda request, **_: request.headers.add_header("x-tollgate-token", world.token))
    assert client.converse(modelId=HAIKU, messages=says("hi"))["usage"]["inputTokens"] == 1
    assert httpx2.get(f"{world.issued_plain}/foundation-models").status_code == 401
