"""What bedrock-runtime does, as boto3 sees it: answers, streams, typed exceptions, retries, breaks."""

import json
import time

import botocore
import pytest
import urllib3
from conftest import HAIKU, PROFILE_ARN, model, says


def anthropic_body(text: str, **more) -> str:
    return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": text}], **more})


# Answers.


def test_converse_reports_its_usage(runtime):
    answer = runtime().converse(modelId=HAIKU, messages=says("one two three"), system=[{"text": "be brief"}], inferenceConfig={"maxTokens": 2})
    assert answer["output"]["message"]["content"][0]["text"] == "echo: one"
    assert answer["stopReason"] == "max_tokens"
    assert (answer["usage"]["inputTokens"], answer["usage"]["outputTokens"], answer["usage"]["totalTokens"]) == (5, 2, 7)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert answer["ResponseMetadata"]["RequestId"]


def test_invoke_model_returns_the_models_own_shape(runtime):
    answer = runtime().invoke_model(modelId=HAIKU, body=anthropic_body("hello there"))
    body = json.load(answer["body"])
    assert body["content"][0]["text"] == "echo: hello there"
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (2, 3)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "2"
    assert headers["x-amzn-bedrock-output-token-count"] == "3"


def test_a_large_body_arrives_whole(runtime):
    words = 60_000
    answer = runtime().invoke_model(modelId=HAIKU, body=anthropic_body("lorem " * words, max_tokens=1))
    assert json.load(answer["body"])["usage"]["input_tokens"] == words


@pytest.mark.parametrize("identifier", [PROFILE_ARN, "us.anthropic.claude-3-haiku-20240307-v1:0"])
def test_inference_profiles_are_model_ids(runtime, identifier):
    client = runtime()
    answer = client.converse(modelId=identifier, messages=says("hello"))
    assert answer["output"]["message"]["content"][0]["text"] == "echo: hello"
    assert json.load(client.invoke_model(modelId=identifier, body=anthropic_body("hello"))["body"])["usage"]["input_tokens"] == 1


def test_tokens_are_counted(runtime):
    assert runtime().count_tokens(modelId=HAIKU, input={"converse": {"messages": says("one two three four")}})["inputTokens"] == 4


@pytest.mark.parametrize(("text", "action"), [("hello", "NONE"), ("a forbidden word", "GUARDRAIL_INTERVENED")])
def test_guardrails_are_applied(runtime, text, action):
    answer = runtime().apply_guardrail(
        guardrailIdentifier="gr-abc123", guardrailVersion="1", source="INPUT", content=[{"text": {"text": text}}]
    )
    assert answer["action"] == action
    assert answer["usage"]["wordPolicyUnits"] == 1


# Streams.


def test_converse_stream_is_read_event_by_event(runtime):
    events = list(runtime().converse_stream(modelId=HAIKU, messages=says("one two three"))["stream"])
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "messageStart"
    assert kinds.count("contentBlockDelta") > 1
    assert kinds[-2:] == ["messageStop", "metadata"]
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e) == "echo: one two three"
    usage = events[-1]["metadata"]["usage"]
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (3, 4, 7)


def test_events_come_one_by_one_and_not_all_at_the_end(runtime):
    came = [time.monotonic() for _ in runtime().converse_stream(modelId=model("slow-events-50", "words-8"), messages=says("x"))["stream"]]
    assert len(came) > 8
    assert came[-1] - came[0] > 0.25, "twelve events 50 ms apart came within a quarter of a second: something held them back"


def test_invoke_model_with_response_stream_carries_the_models_chunks(runtime):
    answer = runtime().invoke_model_with_response_stream(modelId=HAIKU, body=anthropic_body("one two three"))
    chunks = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert len(chunks) > 3
    assert "".join(c["delta"]["text"] for c in chunks if c["type"] == "content_block_delta") == "echo: one two three"
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (3, 4)


@pytest.mark.parametrize("fault", ["split-7", "content-length"])
def test_framing_upstream_makes_no_difference(runtime, fault):
    events = list(runtime().converse_stream(modelId=model(fault), messages=says("one two"))["stream"])
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 3


# Typed exceptions.


@pytest.mark.parametrize(
    ("status", "exception"),
    [
        (400, "ValidationException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (408, "ModelTimeoutException"),
        (424, "ModelErrorException"),
    ],
)
def test_what_a_retry_cannot_help_is_raised_at_once(runtime, status, exception):
    client = runtime()
    with pytest.raises(getattr(client.exceptions, exception)) as raised:
        client.converse(modelId=model(str(status)), messages=says("hi"))
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert raised.value.response["Error"]["Message"] == "The emulator was asked for this."


@pytest.mark.parametrize(
    ("status", "exception"), [(429, "ThrottlingException"), (500, "InternalServerException"), (503, "ServiceUnavailableException")]
)
def test_what_a_retry_may_help_is_tried_three_times(runtime, status, exception):
    client = runtime()
    attempts = []
    client.meta.events.register("before-send.*.*", lambda **_: attempts.append(time.monotonic()))
    with pytest.raises(getattr(client.exceptions, exception)) as raised:
        client.converse(modelId=model(str(status)), messages=says("hi"))
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(attempts) == 3, "one request upstream for each that the client sends"


def test_a_call_that_is_throttled_twice_succeeds_the_third_time(runtime):
    answer = runtime().converse(modelId=model("429-twice"), messages=says("hello"))
    assert answer["output"]["message"]["content"][0]["text"] == "echo: hello"
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


def test_a_server_error_before_a_stream_is_retried(runtime):
    answer = runtime().converse_stream(modelId=model("503-once"), messages=says("hello"))
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert "metadata" in list(answer["stream"])[-1]


def test_a_body_that_is_not_json_is_a_validation_exception(runtime):
    client = runtime()
    with pytest.raises(client.exceptions.ValidationException):
        client.invoke_model(modelId=HAIKU, body=b"not json")


# The gateway's own limit: one request a second.


def test_above_the_limit_the_gateway_throttles_and_says_when_to_come_back(runtime, world):
    client = runtime(token=world.limited, retries={"total_max_attempts": 1})
    with pytest.raises(client.exceptions.ThrottlingException) as raised:
        for _ in range(20):
            client.converse(modelId=HAIKU, messages=says("hi"))
    meta = raised.value.response["ResponseMetadata"]
    assert meta["HTTPStatusCode"] == 429
    headers = meta["HTTPHeaders"]
    assert 1 <= int(headers["retry-after"]) <= 2
    assert 1 <= int(headers["x-amz-retry-after"]) <= 1_100
    assert 1 <= int(headers["retry-after-ms"]) <= 1_100


def test_boto3_waits_as_it_is_told_and_then_gets_through(runtime, world):
    client = runtime(token=world.limited)
    for _ in range(20):
        answer = client.converse(modelId=HAIKU, messages=says("hi"))
        if answer["ResponseMetadata"]["RetryAttempts"]:
            break
    assert 1 <= answer["ResponseMetadata"]["RetryAttempts"] <= 2
    assert answer["usage"]["inputTokens"] == 1


def test_a_spent_quota_is_raised_as_one_and_asked_once(runtime, world):
    client = runtime(token=world.spent, retries={"total_max_attempts": 5})
    with pytest.raises(client.exceptions.ServiceQuotaExceededException) as raised:
        client.converse(modelId=HAIKU, messages=says("hi"))
    meta = raised.value.response["ResponseMetadata"]
    assert (meta["HTTPStatusCode"], meta["RetryAttempts"]) == (400, 0)
    assert "`budget` is spent" in raised.value.response["Error"]["Message"]


# Streams that end badly.


@pytest.mark.parametrize("exception", ["throttlingException", "modelStreamErrorException", "internalServerException", "validationException"])
def test_an_exception_within_a_stream_is_raised_after_what_came_before(runtime, exception):
    stream = runtime().converse_stream(modelId=model(f"exception-{exception}-2"), messages=says("one two three"))["stream"]
    events = []
    with pytest.raises(botocore.exceptions.EventStreamError) as raised:
        for event in stream:
            events.append(event)
    assert len(events) == 2
    assert raised.value.response["Error"]["Code"] == exception
    assert raised.value.response["Error"]["Message"]


def test_an_error_frame_is_raised(runtime):
    stream = runtime().converse_stream(modelId=model("error-frame-2"), messages=says("one two three"))["stream"]
    with pytest.raises(botocore.exceptions.EventStreamError):
        list(stream)


def test_a_frame_whose_checksum_is_wrong_is_not_repaired(runtime):
    stream = runtime().converse_stream(modelId=model("bad-crc"), messages=says("one two three"))["stream"]
    with pytest.raises(botocore.eventstream.ChecksumMismatch):
        list(stream)


@pytest.mark.parametrize("fault", ["cut-mid-frame", "cut-between-frames", "close-mid-frame", "close-between-frames"])
@pytest.mark.parametrize("operation", ["converse_stream", "invoke_model_with_response_stream"])
def test_a_stream_that_breaks_upstream_never_ends_cleanly(runtime, operation, fault):
    """boto3 takes a clean end for success, so the break itself must reach it."""
    client = runtime()
    if operation == "converse_stream":
        stream = client.converse_stream(modelId=model(fault), messages=says("one two three"))["stream"]
    else:
        stream = client.invoke_model_with_response_stream(modelId=model(fault), body=anthropic_body("one two three"))["body"]
    events = []
    with pytest.raises((urllib3.exceptions.ProtocolError, botocore.exceptions.HTTPClientError, ConnectionError)):
        for event in stream:
            events.append(event)
    assert len(events) == 2, "what came whole before the break is delivered"
