"""Anthropic's client for Bedrock: its own paths (`:` raw, `/` encoded), its own retries, InvokeModel in both forms."""

import asyncio
import ssl

import anthropic
import httpx2
import pytest
from anthropic import AnthropicBedrock, AsyncAnthropicBedrock
from conftest import HAIKU, PROFILE_ARN, REGION, model

ONE_TWO = {"max_tokens": 64, "messages": [{"role": "user", "content": "one two"}]}


@pytest.fixture(params=["plain", "tls"])
def client(request, world):
    more = {}
    if request.param == "tls":
        more["http_client"] = anthropic.DefaultHttpxClient(verify=ssl.create_default_context(cafile=world.ca))
    return AnthropicBedrock(api_key=world.token, base_url=getattr(world, request.param), aws_region=REGION, **more)


@pytest.fixture
def plain(world):
    return lambda token=world.token, **more: AnthropicBedrock(api_key=token, base_url=world.plain, aws_region=REGION, **more)


@pytest.mark.parametrize("identifier", [HAIKU, PROFILE_ARN])
def test_a_message_comes_with_its_usage(client, identifier):
    message = client.messages.create(model=identifier, **ONE_TWO)
    assert message.content[0].text == "echo: one two"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)


def test_a_stream_comes_piece_by_piece_with_its_usage(client):
    with client.messages.stream(model=HAIKU, **ONE_TWO) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == "echo: one two"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)


def test_the_asynchronous_client_passes_too(world):
    async def talk():
        async with AsyncAnthropicBedrock(api_key=world.token, base_url=world.plain, aws_region=REGION) as client:
            message = await client.messages.create(model=HAIKU, **ONE_TWO)
            stream = await client.messages.create(model=HAIKU, stream=True, **ONE_TWO)
            return message, [event async for event in stream]

    message, events = asyncio.run(talk())
    assert message.content[0].text == "echo: one two"
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    assert "".join(e.delta.text for e in events if e.type == "content_block_delta") == "echo: one two"


def test_an_expired_token_is_an_authentication_error(plain, world):
    with pytest.raises(anthropic.AuthenticationError) as raised:
        plain(world.expired).messages.create(model=HAIKU, **ONE_TWO)
    assert raised.value.status_code == 401


def test_a_validation_error_is_a_bad_request(plain):
    with pytest.raises(anthropic.BadRequestError):
        plain().messages.create(model=model("400"), **ONE_TWO)


def test_a_call_that_is_throttled_twice_succeeds_the_third_time(plain):
    answer = plain().messages.with_raw_response.create(model=model("429-twice"), **ONE_TWO)
    assert answer.retries_taken == 2
    assert answer.parse().content[0].text == "echo: one two"


def test_above_the_limit_it_is_a_rate_limit_error_that_says_when_to_come_back(plain, world):
    with pytest.raises(anthropic.RateLimitError) as raised:
        for _ in range(20):
            plain(world.limited, max_retries=0).messages.create(model=HAIKU, **ONE_TWO)
    assert 1 <= int(raised.value.response.headers["retry-after-ms"]) <= 1_100


def test_a_spent_quota_is_a_bad_request_that_is_asked_once(plain, world):
    with pytest.raises(anthropic.BadRequestError) as raised:
        plain(world.spent, max_retries=4).messages.create(model=HAIKU, **ONE_TWO)
    assert raised.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", ["exception-throttlingException-2", "cut-mid-frame", "close-mid-frame"])
def test_a_stream_that_breaks_never_ends_cleanly(plain, fault):
    with pytest.raises((anthropic.APIError, httpx2.TransportError)):
        list(plain().messages.create(model=model(fault), stream=True, **ONE_TWO))
