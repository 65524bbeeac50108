"""OpenAI's client: chat completions and responses, whole and as server-sent events."""

import httpx2
import openai
import pytest
from conftest import model
from openai import OpenAI

MODEL = "openai.gpt-oss-20b-1:0"
ONE_TWO = [{"role": "user", "content": "one two"}]


@pytest.fixture
def connect(world):
    return lambda token=world.token, **more: OpenAI(base_url=f"{world.plain}/openai/v1", api_key=token, **more)


def test_a_chat_completion_comes_with_its_usage(connect):
    answer = connect().chat.completions.create(model=MODEL, messages=ONE_TWO)
    assert answer.choices[0].message.content == "echo: one two"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


def test_a_chat_completion_streams_and_ends_with_its_usage(connect):
    chunks = list(connect().chat.completions.create(model=MODEL, messages=ONE_TWO, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 1
    assert "".join(pieces) == "echo: one two"
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 3)


def test_a_response_comes_with_its_usage(connect):
    answer = connect().responses.create(model=MODEL, input="one two")
    assert answer.output_text == "echo: one two"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 3)


def test_an_expired_token_is_an_authentication_error(connect, world):
    with pytest.raises(openai.AuthenticationError) as raised:
        connect(world.expired).chat.completions.create(model=MODEL, messages=ONE_TWO)
    assert raised.value.body["message"], "the body's `error` object is what this client shows"


def test_a_call_that_is_throttled_twice_succeeds_the_third_time(connect):
    answer = connect().chat.completions.with_raw_response.create(model=model("429-twice"), messages=ONE_TWO)
    assert answer.retries_taken == 2
    assert answer.parse().choices[0].message.content == "echo: one two"


def test_above_the_limit_it_is_a_rate_limit_error_that_says_when_to_come_back(connect, world):
    with pytest.raises(openai.RateLimitError) as raised:
        for _ in range(20):
            connect(world.limited, max_retries=0).chat.completions.create(model=MODEL, messages=ONE_TWO)
    assert 1 <= int(raised.value.response.headers["retry-after-ms"]) <= 1_100


def test_it_reads_where_it_stands_under_the_limits(connect, world):
    answer = connect(world.limited).chat.completions.with_raw_response.create(model=MODEL, messages=ONE_TWO)
    told = {name: answer.headers.get(f"x-ratelimit-{name}-requests") for name in ("limit", "remaining", "reset")}
    assert (told["limit"], told["remaining"]) == ("1", "0")
    assert told["reset"] == "1s" or told["reset"].endswith("ms")
    assert "x-ratelimit-limit-tokens" not in answer.headers, "no rule counts tokens"


def test_a_spent_quota_is_a_bad_request_that_is_asked_once(connect, world):
    with pytest.raises(openai.BadRequestError) as raised:
        connect(world.spent, max_retries=4).chat.completions.create(model=MODEL, messages=ONE_TWO)
    assert raised.value.code == "budget_spent"
    assert raised.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", ["exception-throttlingException-2", "cut-mid-frame", "close-mid-frame"])
def test_a_stream_that_breaks_never_ends_cleanly(connect, fault):
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        list(connect().chat.completions.create(model=model(fault), messages=ONE_TWO, stream=True))
