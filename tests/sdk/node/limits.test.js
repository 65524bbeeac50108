// What limits do to the AWS SDK for JavaScript: many calls at once, waits, budgets.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BedrockRuntimeClient, ConverseCommand } from "@aws-sdk/client-bedrock-runtime";

import { REGION, bearer, model, says, world } from "./world.js";

const CALLS = 200;

/** The tokens that a call was answered with, or the name of its error, and how often it was tried. */
async function ask(client, words) {
  const input = { modelId: model(`words-${words}`), messages: says("one two three four five"), inferenceConfig: { maxTokens: words + 5 } };
  try {
    const answer = await client.send(new ConverseCommand(input));
    return { tokens: answer.usage.totalTokens, attempts: answer.$metadata.attempts };
  } catch (error) {
    return { tokens: 0, error: error.name, attempts: error.$metadata?.attempts };
  }
}

const connect = (token, more = {}) => new BedrockRuntimeClient({ region: REGION, endpoint: world.plain, ...bearer(token), ...more });

const atOnce = (clients, words) => Promise.all(Array.from({ length: CALLS }, (_, at) => ask(clients[at % clients.length], words)));

const sum = (answers) => answers.reduce((sum, { tokens }) => sum + tokens, 0);

test("two hundred calls at once never pass a budget of 10,000 tokens", async () => {
  const client = connect(world.metered);
  const answers = await atOnce([client], 90);
  const errors = new Set(answers.map(({ error }) => error).filter(Boolean));
  errors.delete("ThrottlingException");
  errors.delete("ServiceQuotaExceededException");
  assert.deepEqual([...errors], []);
  assert.ok(sum(answers) >= 50 * 95 && sum(answers) <= 105 * 95, `${sum(answers)}`);
  while (answers.at(-1).error !== "ServiceQuotaExceededException") answers.push(await ask(client, 90));
  assert.equal(sum(answers), 105 * 95);
  assert.deepEqual(await ask(client, 90), { tokens: 0, error: "ServiceQuotaExceededException", attempts: 1 });
  client.destroy();
});

test("two hundred calls at once wait as told, and all succeed", async () => {
  // A client has some hundred retries at a time.
  const clients = Array.from({ length: 8 }, () => connect(world.paced, { maxAttempts: 30 }));
  const answers = await atOnce(clients, 90);
  assert.deepEqual(answers.filter(({ error }) => error), []);
  assert.ok(answers.some(({ attempts }) => attempts > 1));
  clients.forEach((client) => client.destroy());
});
