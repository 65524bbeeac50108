"""What stock clients make of a stream that its limit ends: their typed error, after all that came before."""

import anthropic
import botocore
import openai
import pytest
from anthropic import Anthropic, AnthropicBedrock
from conftest import REGION, model, says
from openai import OpenAI

WORDS = model("words-300")


def read(stream, error: type[Exception]) -> tuple[list, Exception]:
    """The events of a stream, and the error that it ends with."""
    events = []
    with pytest.raises(error) as raised:
        for event in stream:
            events.append(event)
    return events, raised.value


@pytest.mark.parametrize("quiet", ["words-300", "words-300.slow-events-1"])
def test_boto3_raises_a_throttling_exception_after_what_came_before(runtime, world, quiet):
    client = runtime(token=world.brief, retries={"mode": "standard", "max_attempts": 20})
    stream = client.converse_stream(modelId=model(*quiet.split(".")), messages=says("one two three"))["stream"]
    events, error = read(stream, botocore.exceptions.EventStreamError)
    assert error.response["Error"]["Code"] == "throttlingException"
    assert "`brevity`" in error.response["Error"]["Message"]
    words = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert 0 < len(words) <= 36


def test_boto3_raises_it_for_invoke_model_too(runtime, world):
    client = runtime(token=world.brief, retries={"mode": "standard", "max_attempts": 20})
    body = '{"anthropic_version":"bedrock-2023-05-31","max_tokens":20,"messages":[{"role":"user","content":"one two three"}]}'
    events, error = read(
        client.invoke_model_with_response_stream(modelId=WORDS, body=body)["body"], botocore.exceptions.EventStreamError
    )
    assert error.response["Error"]["Code"] == "throttlingException"
    assert 0 < len(events) <= 40


def test_anthropics_client_raises_a_status_error(world):
    client = Anthropic(base_url=f"{world.plain}/anthropic", auth_token=world.brief, max_retries=20)
    stream = client.messages.create(model=WORDS, max_tokens=20, messages=[{"role": "user", "content": "one two three"}], stream=True)
    events, error = read(stream, anthropic.APIStatusError)
    assert error.body["error"]["type"] == "rate_limit_error"
    assert error.body["error"]["code"] == "budget_spent"
    assert "`brevity`" in str(error)
    assert 0 < len(events) <= 40


def test_anthropics_client_for_bedrock_fails(world):
    client = AnthropicBedrock(api_key=world.brief, base_url=world.plain, aws_region=REGION, max_retries=20)
    stream = client.messages.create(model=WORDS, max_tokens=20, messages=[{"role": "user", "content": "one two three"}], stream=True)
    events, error = read(stream, Exception)
    assert "`brevity`" in str(error)
    assert 0 < len(events) <= 40


def test_openais_client_raises_an_api_error(world):
    client = OpenAI(base_url=f"{world.plain}/openai/v1", api_key=world.brief, max_retries=20)
    stream = client.chat.completions.create(model=WORDS, messages=[{"role": "user", "content": "one two three"}], stream=True)
    chunks, error = read(stream, openai.APIError)
    assert error.code == "budget_spent"
    assert "`brevity`" in error.message
    assert 0 < len(chunks) <= 40
    responses = client.responses.create(model=WORDS, input="one two three", stream=True)
    _, error = read(responses, openai.APIError)
    assert error.code == "budget_spent"
