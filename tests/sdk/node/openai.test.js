// OpenAI's client: chat completions and responses, whole and as server-sent events.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import OpenAI from "openai";

import { drain, failure, model, world } from "./world.js";

const MODEL = "openai.gpt-oss-20b-1:0";
const messages = [{ role: "user", content: "one two" }];
const connect = (url, apiKey = world.token, more = {}) => new OpenAI({ baseURL: `${url}/openai/v1`, apiKey, ...more });

for (const [transport, url] of [
  ["plain HTTP", world.plain],
  ["TLS", world.tls],
]) {
  describe(`over ${transport}`, () => {
    test("a chat completion comes with its usage", async () => {
      const answer = await connect(url).chat.completions.create({ model: MODEL, messages });
      assert.equal(answer.choices[0].message.content, "echo: one two");
      assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens], [2, 3, 5]);
    });

    test("a chat completion streams and ends with its usage", async () => {
      const stream = await connect(url).chat.completions.create({ model: MODEL, messages, stream: true, stream_options: { include_usage: true } });
      const { items, error } = await drain(stream);
      assert.equal(error, undefined);
      const pieces = items.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
      assert.ok(pieces.length > 1);
      assert.equal(pieces.join(""), "echo: one two");
      assert.deepEqual([items.at(-1).usage.prompt_tokens, items.at(-1).usage.completion_tokens], [2, 3]);
    });

    test("a response comes with its usage", async () => {
      const answer = await connect(url).responses.create({ model: MODEL, input: "one two" });
      assert.equal(answer.output_text, "echo: one two");
      assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [2, 3]);
    });
  });
}

test("an expired token is an authentication error", async () => {
  const error = await failure(() => connect(world.plain, world.expired).chat.completions.create({ model: MODEL, messages }));
  assert.ok(error instanceof OpenAI.AuthenticationError);
  assert.ok(error.error.message, "the body's `error` object is what this client shows");
});

test("a call that is throttled twice succeeds the third time", async () => {
  const answer = await connect(world.plain).chat.completions.create({ model: model("429-twice"), messages });
  assert.equal(answer.choices[0].message.content, "echo: one two");
});

test("above the limit it is a rate limit error that says when to come back", async () => {
  const client = connect(world.plain, world.limited, { maxRetries: 0 });
  const error = await failure(async () => {
    for (let call = 0; call < 20; call++) await client.chat.completions.create({ model: MODEL, messages });
  });
  assert.ok(error instanceof OpenAI.RateLimitError);
  const wait = Number(error.headers.get("retry-after-ms"));
  assert.ok(wait >= 1 && wait <= 1_100, `retry-after-ms is ${wait}`);
});

test("a spent quota is a bad request that is asked once", async () => {
  const client = connect(world.plain, world.spent, { maxRetries: 4 });
  const error = await failure(() => client.chat.completions.create({ model: MODEL, messages }));
  assert.equal(error.constructor.name, "BadRequestError");
  assert.equal(error.headers.get("x-should-retry"), "false");
});

for (const fault of ["exception-throttlingException-2", "cut-mid-frame", "close-mid-frame"]) {
  test(`a stream with ${fault} never ends cleanly`, async () => {
    const { error } = await drain(await connect(world.plain).chat.completions.create({ model: model(fault), messages, stream: true }));
    assert.ok(error);
  });
}
