"""boto3 reads what agents, harnesses and knowledge bases answer, usage and all, through the gateway."""

import uuid

from conftest import HAIKU, says


def usages(stream):
    traces = [event["trace"]["trace"]["orchestrationTrace"] for event in stream if "trace" in event]
    return [trace["modelInvocationOutput"]["metadata"]["usage"] for trace in traces if "modelInvocationOutput" in trace]


def text(stream):
    return b"".join(event["chunk"]["bytes"] for event in stream if "chunk" in event)


def test_an_agent_says_what_it_used_in_its_traces(connect):
    client = connect("bedrock-agent-runtime")
    agent = {"agentId": "AGENT12345", "agentAliasId": "ALIAS12345", "sessionId": "session-1", "inputText": "one two"}
    events = list(client.invoke_agent(**agent, enableTrace=True, streamingConfigurations={"streamFinalResponse": True})["completion"])
    assert text(events) == b"echo: one two"
    assert usages(events) == [{"inputTokens": 2, "outputTokens": 3}] * 2
    answer = client.invoke_agent(**agent)
    assert answer["sessionId"] == "session-1"
    events = list(answer["completion"])
    assert text(events) == b"echo: one two"
    assert usages(events) == []


def test_an_inline_agent_says_what_it_used_in_its_traces(connect):
    client = connect("bedrock-agent-runtime")
    instruction = "be brief and say what you were told to say"
    answer = client.invoke_inline_agent(sessionId="session-1", foundationModel=HAIKU, instruction=instruction, inputText="one", enableTrace=True)
    events = list(answer["completion"])
    assert text(events) == b"echo: one"
    assert usages(events) == [{"inputTokens": 11, "outputTokens": 2}] * 2


def test_a_knowledge_base_answers(connect):
    client = connect("bedrock-agent-runtime")
    found = client.retrieve(knowledgeBaseId="KB12345678", retrievalQuery={"text": "one"})
    assert found["retrievalResults"][0]["content"]["text"] == "one"
    configuration = {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": {"knowledgeBaseId": "KB12345678", "modelArn": HAIKU}}
    answer = client.retrieve_and_generate(input={"text": "one"}, retrieveAndGenerateConfiguration=configuration)
    assert answer["output"]["text"] == "echo: one"


def test_a_harness_tells_its_usage(connect):
    arn = "arn:aws:bedrock-agentcore:us-east-1:123456789012:harness/harness-0123456789"
    client = connect("bedrock-agentcore")
    answer = client.invoke_harness(harnessArn=arn, runtimeSessionId=str(uuid.uuid4()), messages=says("one two"))
    usage = [event["metadata"]["usage"] for event in answer["stream"] if "metadata" in event]
    assert [(each["inputTokens"], each["outputTokens"]) for each in usage] == [(2, 3)]


def test_a_service_tier_comes_back(connect):
    client = connect("bedrock-runtime")
    answer = client.converse(modelId=HAIKU, messages=says("one"), serviceTier={"type": "flex"})
    assert answer["serviceTier"] == {"type": "flex"}
