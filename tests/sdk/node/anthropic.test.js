// Anthropic's TypeScript client for Bedrock: HTTP/1.1, its own paths (`:` raw, `/` encoded), its own retries.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { AnthropicBedrock } from "@anthropic-ai/bedrock-sdk";

import { HAIKU, PROFILE_ARN, REGION, drain, failure, model, world } from "./world.js";

const oneTwo = { max_tokens: 64, messages: [{ role: "user", content: "one two" }] };
const connect = (baseURL, apiKey = world.token, more = {}) => new AnthropicBedrock({ baseURL, apiKey, awsRegion: REGION, ...more });

for (const [transport, url] of [
  ["plain HTTP", world.plain],
  ["TLS", world.tls],
]) {
  describe(`over ${transport}`, () => {
    for (const identifier of [HAIKU, PROFILE_ARN]) {
      test(`a message to ${identifier} comes with its usage`, async () => {
        const message = await connect(url).messages.create({ model: identifier, ...oneTwo });
        assert.equal(message.content[0].text, "echo: one two");
        assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [2, 3]);
      });
    }

    test("a stream comes piece by piece with its usage", async () => {
      const stream = connect(url).messages.stream({ model: HAIKU, ...oneTwo });
      const pieces = [];
      stream.on("text", (piece) => pieces.push(piece));
      const message = await stream.finalMessage();
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(""), "echo: one two");
      assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [2, 3]);
    });
  });
}

test("a client that skips authorization and sets the header itself passes", async () => {
  const client = new AnthropicBedrock({ baseURL: world.plain, awsRegion: REGION, skipAuth: true, defaultHeaders: { Authorization: `Bearer ${world.token}` } });
  assert.equal((await client.messages.create({ model: HAIKU, ...oneTwo })).content[0].text, "echo: one two");
});

test("an expired token is an authentication error", async () => {
  const error = await failure(() => connect(world.plain, world.expired).messages.create({ model: HAIKU, ...oneTwo }));
  assert.equal(error.status, 401);
  assert.equal(error.constructor.name, "AuthenticationError");
});

test("a call that is throttled twice succeeds the third time", async () => {
  const message = await connect(world.plain).messages.create({ model: model("429-twice"), ...oneTwo });
  assert.equal(message.content[0].text, "echo: one two");
});

test("above the limit it is a rate limit error that says when to come back", async () => {
  const client = connect(world.plain, world.limited, { maxRetries: 0 });
  const error = await failure(async () => {
    for (let call = 0; call < 20; call++) await client.messages.create({ model: HAIKU, ...oneTwo });
  });
  assert.equal(error.constructor.name, "RateLimitError");
  const wait = Number(error.headers.get("retry-after-ms"));
  assert.ok(wait >= 1 && wait <= 1_100, `retry-after-ms is ${wait}`);
});

test("a spent quota is a bad request that is asked once", async () => {
  const client = connect(world.plain, world.spent, { maxRetries: 4 });
  const error = await failure(() => client.messages.create({ model: HAIKU, ...oneTwo }));
  assert.equal(error.constructor.name, "BadRequestError");
  assert.equal(error.headers.get("x-should-retry"), "false");
});

for (const fault of ["exception-throttlingException-2", "cut-mid-frame", "close-mid-frame"]) {
  test(`a stream with ${fault} never ends cleanly`, async () => {
    const { error } = await drain(await connect(world.plain).messages.create({ model: model(fault), stream: true, ...oneTwo }));
    assert.ok(error);
  });
}
