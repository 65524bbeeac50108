// AWS SDK for JavaScript v3. BedrockRuntimeClient speaks HTTP/2 for every call: h2c on the plain port, ALPN h2 on TLS.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";

import { BedrockClient, ListFoundationModelsCommand, ListInferenceProfilesCommand } from "@aws-sdk/client-bedrock";
import { BedrockAgentRuntimeClient, CreateSessionCommand, RetrieveCommand } from "@aws-sdk/client-bedrock-agent-runtime";
import {
  ApplyGuardrailCommand,
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  CountTokensCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
  ThrottlingException,
  ValidationException,
} from "@aws-sdk/client-bedrock-runtime";

import { HAIKU, PROFILE_ARN, REGION, bearer, drain, failure, model, says, world } from "./world.js";

const clients = [];
after(() => clients.forEach((client) => client.destroy()));

/** A client of `Client` at `endpoint`, closed at the end. */
function connect(Client, endpoint, more = bearer(world.token)) {
  const client = new Client({ region: REGION, endpoint, ...more });
  clients.push(client);
  return client;
}

const signedBy = { credentials: { accessKeyId: "AKIADUMMYDUMMYDUMMY1", secretAccessKey: "dummy" } };

/** Puts headers on every request of `client`, before it is signed. */
function withHeaders(client, headers) {
  client.middlewareStack.add(
    (next) => (args) => {
      Object.assign(args.request.headers, headers);
      return next(args);
    },
    { step: "build", name: "tollgateHeaders" },
  );
  return client;
}

const body = (text, more = {}) =>
  JSON.stringify({ anthropic_version: "bedrock-2023-05-31", max_tokens: 64, messages: [{ role: "user", content: text }], ...more });

const converse = (modelId = HAIKU, text = "one two three") => new ConverseCommand({ modelId, messages: says(text) });
const converseStream = (modelId = HAIKU, text = "one two three") => new ConverseStreamCommand({ modelId, messages: says(text) });
const textOf = (answer) => answer.output.message.content[0].text;

for (const [transport, endpoint] of [
  ["h2c", world.plain],
  ["TLS", world.tls],
]) {
  describe(`over ${transport}`, () => {
    const client = connect(BedrockRuntimeClient, endpoint);

    test("Converse reports its usage", async () => {
      const answer = await client.send(
        new ConverseCommand({ modelId: HAIKU, messages: says("one two three"), system: [{ text: "be brief" }], inferenceConfig: { maxTokens: 2 } }),
      );
      assert.equal(textOf(answer), "echo: one");
      assert.equal(answer.stopReason, "max_tokens");
      assert.deepEqual([answer.usage.inputTokens, answer.usage.outputTokens, answer.usage.totalTokens], [5, 2, 7]);
      assert.equal(answer.$metadata.attempts, 1);
      assert.ok(answer.$metadata.requestId);
    });

    test("ConverseStream is read event by event", async () => {
      const answer = await client.send(converseStream());
      const { items, error } = await drain(answer.stream);
      assert.equal(error, undefined);
      const kinds = items.map((event) => Object.keys(event)[0]);
      assert.equal(kinds[0], "messageStart");
      assert.deepEqual(kinds.slice(-2), ["messageStop", "metadata"]);
      const pieces = items.filter((event) => event.contentBlockDelta).map((event) => event.contentBlockDelta.delta.text);
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(""), "echo: one two three");
      const { usage } = items.at(-1).metadata;
      assert.deepEqual([usage.inputTokens, usage.outputTokens, usage.totalTokens], [3, 4, 7]);
    });

    test("events come one by one and not all at the end", async () => {
      const answer = await client.send(converseStream(model("slow-events-50", "words-8")));
      const came = [];
      for await (const _ of answer.stream) came.push(performance.now());
      assert.ok(came.length > 8);
      assert.ok(came.at(-1) - came[0] > 250, "twelve events 50 ms apart came within a quarter of a second: something held them back");
    });

    test("InvokeModel returns the model's own shape", async () => {
      const answer = await client.send(new InvokeModelCommand({ modelId: HAIKU, body: body("hello there") }));
      const parsed = JSON.parse(answer.body.transformToString());
      assert.equal(parsed.content[0].text, "echo: hello there");
      assert.deepEqual([parsed.usage.input_tokens, parsed.usage.output_tokens], [2, 3]);
    });

    test("InvokeModelWithResponseStream carries the model's chunks", async () => {
      const answer = await client.send(new InvokeModelWithResponseStreamCommand({ modelId: HAIKU, body: body("one two three") }));
      const { items, error } = await drain(answer.body);
      assert.equal(error, undefined);
      const chunks = items.map((event) => JSON.parse(new TextDecoder().decode(event.chunk.bytes)));
      const pieces = chunks.filter((chunk) => chunk.type === "content_block_delta").map((chunk) => chunk.delta.text);
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(""), "echo: one two three");
      const metrics = chunks.at(-1)["amazon-bedrock-invocationMetrics"];
      assert.deepEqual([metrics.inputTokenCount, metrics.outputTokenCount], [3, 4]);
    });

    test("a large body arrives whole", async () => {
      const words = 60_000;
      const answer = await client.send(new InvokeModelCommand({ modelId: HAIKU, body: body("lorem ".repeat(words), { max_tokens: 1 }) }));
      assert.equal(JSON.parse(answer.body.transformToString()).usage.input_tokens, words);
    });

    test("an inference profile's ARN is a model id", async () => {
      assert.equal(textOf(await client.send(converse(PROFILE_ARN, "hello"))), "echo: hello");
    });

    test("CountTokens counts", async () => {
      const answer = await client.send(new CountTokensCommand({ modelId: HAIKU, input: { converse: { messages: says("one two three four") } } }));
      assert.equal(answer.inputTokens, 4);
    });

    test("ApplyGuardrail answers", async () => {
      const answer = await client.send(
        new ApplyGuardrailCommand({ guardrailIdentifier: "gr-abc123", guardrailVersion: "1", source: "INPUT", content: [{ text: { text: "hello" } }] }),
      );
      assert.ok(["NONE", "GUARDRAIL_INTERVENED"].includes(answer.action));
    });

    test("many calls share one connection", async () => {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, at) => client.send(converse(HAIKU, `call ${at}`))));
      assert.deepEqual(answers.map(textOf), Array.from({ length: 20 }, (_, at) => `echo: call ${at}`));
    });

    test("an expired token is refused once", async () => {
      for (const command of [converse(), converseStream()]) {
        const error = await failure(() => connect(BedrockRuntimeClient, endpoint, bearer(world.expired)).send(command));
        assert.equal(error.name, "UnrecognizedClientException");
        assert.equal(error.$metadata.httpStatusCode, 401);
        assert.equal(error.$metadata.attempts, 1);
        assert.ok(error.message);
      }
    });

    test("the control plane passes", async () => {
      const control = connect(BedrockClient, endpoint);
      assert.ok((await control.send(new ListFoundationModelsCommand({}))).modelSummaries[0].modelId);
      assert.ok((await control.send(new ListInferenceProfilesCommand({}))).inferenceProfileSummaries[0].inferenceProfileId);
    });

    test("agents pass to their own service, by path prefix and by header", async () => {
      // This client knows no bearer token.
      const token = { "x-tollgate-token": world.token };
      const byPrefix = withHeaders(connect(BedrockAgentRuntimeClient, `${endpoint}/bedrock-agent-runtime`, signedBy), token);
      const byHeader = withHeaders(connect(BedrockAgentRuntimeClient, endpoint, signedBy), { ...token, "aws-endpoint-prefix": "bedrock-agent-runtime" });
      for (const agent of [byPrefix, byHeader]) {
        const answer = await agent.send(new RetrieveCommand({ knowledgeBaseId: "KB12345678", retrievalQuery: { text: "x" } }));
        assert.equal(answer.$metadata.httpStatusCode, 200);
        assert.equal((await agent.send(new CreateSessionCommand({}))).$metadata.httpStatusCode, 200);
      }
    });

    test("a stream that breaks upstream never ends cleanly", async () => {
      for (const fault of ["cut-mid-frame", "cut-between-frames", "close-mid-frame", "close-between-frames"]) {
        // A client of its own: what breaks a connection would break the other calls on it.
        const answer = await connect(BedrockRuntimeClient, endpoint).send(converseStream(model(fault)));
        const { items, error } = await drain(answer.stream);
        assert.ok(error, `${fault} ended cleanly`);
        assert.equal(items.length, 2, `${fault}: what came whole before the break is delivered`);
      }
    });
  });
}

describe("ways in", () => {
  test("the environment alone, over TLS", async () => {
    Object.assign(process.env, { AWS_BEARER_TOKEN_BEDROCK: world.token, AWS_ENDPOINT_URL_BEDROCK_RUNTIME: world.tls, AWS_REGION: REGION });
    try {
      assert.equal(textOf(await connect(BedrockRuntimeClient, undefined, {}).send(converse(HAIKU, "hello"))), "echo: hello");
    } finally {
      for (const name of ["AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_REGION"]) delete process.env[name];
    }
  });

  test("a dummy signature, and the token in a header of its own", async () => {
    const client = withHeaders(connect(BedrockRuntimeClient, world.plain, signedBy), { "x-tollgate-token": world.token });
    assert.equal(textOf(await client.send(converse(HAIKU, "hello"))), "echo: hello");
  });

  test("a dummy signature alone, to a gateway that asks nobody who they are", async () => {
    assert.equal(textOf(await connect(BedrockRuntimeClient, world.anonymous, signedBy).send(converse(HAIKU, "hello"))), "echo: hello");
  });

  test("a dummy signature alone is no credential", async () => {
    const error = await failure(() => connect(BedrockRuntimeClient, world.plain, signedBy).send(converse()));
    assert.equal(error.name, "UnrecognizedClientException");
  });
});

describe("typed exceptions and retries", () => {
  const client = connect(BedrockRuntimeClient, world.plain);

  for (const [status, name] of [
    [400, "ValidationException"],
    [403, "AccessDeniedException"],
    [404, "ResourceNotFoundException"],
    [408, "ModelTimeoutException"],
    [424, "ModelErrorException"],
  ]) {
    test(`${status} is ${name}, raised at once`, async () => {
      const error = await failure(() => client.send(converse(model(`${status}`))));
      assert.equal(error.name, name);
      assert.equal(error.$metadata.httpStatusCode, status);
      assert.equal(error.$metadata.attempts, 1);
    });
  }

  for (const [status, name] of [
    [429, "ThrottlingException"],
    [500, "InternalServerException"],
    [503, "ServiceUnavailableException"],
  ]) {
    test(`${status} is ${name}, after three attempts`, async () => {
      const error = await failure(() => client.send(converse(model(`${status}`))));
      assert.equal(error.name, name);
      assert.equal(error.$metadata.attempts, 3);
    });
  }

  test("a call that is throttled twice succeeds the third time", async () => {
    const answer = await client.send(converse(model("429-twice"), "hello"));
    assert.equal(textOf(answer), "echo: hello");
    assert.equal(answer.$metadata.attempts, 3);
  });

  test("a body that is not JSON is a validation exception", async () => {
    const error = await failure(() => client.send(new InvokeModelCommand({ modelId: HAIKU, body: "not json" })));
    assert.ok(error instanceof ValidationException);
  });

  test("above the limit the gateway throttles", async () => {
    const limited = connect(BedrockRuntimeClient, world.plain, { ...bearer(world.limited), maxAttempts: 1 });
    const error = await failure(async () => {
      for (let call = 0; call < 20; call++) await limited.send(converse());
    });
    assert.ok(error instanceof ThrottlingException);
    assert.equal(error.$metadata.httpStatusCode, 429);
  });

  test("the SDK waits as it is told and then gets through", async () => {
    const limited = connect(BedrockRuntimeClient, world.plain, bearer(world.limited));
    let answer;
    for (let call = 0; call < 20; call++) {
      answer = await limited.send(converse(HAIKU, "hello"));
      if (answer.$metadata.attempts > 1) break;
    }
    assert.ok(answer.$metadata.attempts > 1 && answer.$metadata.attempts <= 3);
    assert.equal(textOf(answer), "echo: hello");
  });

  test("a spent quota is raised as one and asked once", async () => {
    const spent = connect(BedrockRuntimeClient, world.plain, { ...bearer(world.spent), maxAttempts: 5 });
    const error = await failure(() => spent.send(converse()));
    assert.equal(error.name, "ServiceQuotaExceededException");
    assert.deepEqual([error.$metadata.httpStatusCode, error.$metadata.attempts], [400, 1]);
  });

  for (const name of ["throttlingException", "modelStreamErrorException", "internalServerException", "validationException"]) {
    test(`${name} within a stream is raised after what came before`, async () => {
      const answer = await client.send(converseStream(model(`exception-${name}-2`)));
      const { items, error } = await drain(answer.stream);
      assert.equal(items.length, 2);
      assert.equal(error?.name.toLowerCase(), name.toLowerCase());
    });
  }
});
