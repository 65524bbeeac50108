// What stock clients make of a stream that its limit ends: their typed error, after all that came before.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BedrockRuntimeClient, ConverseStreamCommand, InvokeModelWithResponseStreamCommand, ThrottlingException } from "@aws-sdk/client-bedrock-runtime";

import { REGION, bearer, drain, model, says, world } from "./world.js";

const WORDS = model("words-300");

for (const [name, endpoint] of [["http://", world.plain], ["https://", world.tls]]) {
  test(`the AWS SDK raises its ThrottlingException after what came before, over ${name}`, async () => {
    const client = new BedrockRuntimeClient({ region: REGION, endpoint, ...bearer(world.brief), maxAttempts: 20 });
    const body = { anthropic_version: "bedrock-2023-05-31", max_tokens: 20, messages: [{ role: "user", content: "one two three" }] };
    for (const answer of [
      async () => (await client.send(new ConverseStreamCommand({ modelId: WORDS, messages: says("one two three") }))).stream,
      async () => (await client.send(new InvokeModelWithResponseStreamCommand({ modelId: WORDS, body: JSON.stringify(body) }))).body,
    ]) {
      const { items, error } = await drain(await answer());
      assert.ok(error instanceof ThrottlingException, `${error}`);
      assert.match(error.message, /`brevity`/);
      assert.ok(items.length > 0 && items.length <= 40, `${items.length}`);
    }
    client.destroy();
  });
}
