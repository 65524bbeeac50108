// The AWS SDK for JavaScript while gateways take over from one another: calls and streams until stdin ends, and then one line of JSON. The harness is
// tests/it/restarts/stock.rs.

import assert from "node:assert/strict";
import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";

import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const MODEL = "amazon.nova-lite-v1:0";
const told = { calls: 0, retries: 0, errors: [] };
let over = false;

const http1 = () =>
  new NodeHttpHandler({ httpAgent: new http.Agent({ keepAlive: true }), httpsAgent: new https.Agent({ keepAlive: true }) });

function client(endpoint, requestHandler) {
  return new BedrockRuntimeClient({
    region: "us-east-1",
    endpoint,
    token: { token: process.env.TOLLGATE_TOKEN },
    authSchemePreference: ["httpBearerAuth"],
    requestHandler,
  });
}

async function call(runtime, word) {
  const answer = await runtime.send(new ConverseCommand({ modelId: MODEL, messages: [{ role: "user", content: [{ text: word }] }] }));
  assert.equal(answer.output.message.content[0].text, `echo: ${word}`);
  return answer.$metadata.attempts;
}

async function stream(runtime, word) {
  const modelId = "amazon.emulator.slow-events-60.words-15:0";
  const answer = await runtime.send(new ConverseStreamCommand({ modelId, messages: [{ role: "user", content: [{ text: word }] }] }));
  const kinds = [];
  for await (const event of answer.stream) kinds.push(...Object.keys(event));
  assert.equal(kinds.at(-1), "metadata");
  return answer.$metadata.attempts;
}

async function worker(runtime, ask, name) {
  for (let at = 1; !over; at++) {
    try {
      told.retries += (await ask(runtime, `w${name}n${at}`)) - 1;
    } catch (error) {
      told.errors.push(`${name}: ${error.name}: ${error.message}`);
    }
    told.calls++;
    // Below the grace of idle connections; of all lengths.
    await sleep(name % 2 ? 5 : 300 * (at % 5));
  }
}

const { TOLLGATE_PLAIN_URL: plain, TOLLGATE_TLS_URL: tls } = process.env;
const clients = [client(plain, http1()), client(tls, http1()), client(plain), client(tls)];
const workers = clients.flatMap((runtime, at) => [call, call, stream].map((ask, nth) => worker(runtime, ask, 3 * at + nth)));
process.stdin.resume();
process.stdin.on("end", async () => {
  over = true;
  await Promise.all(workers);
  console.log(JSON.stringify(told));
  clients.forEach((runtime) => runtime.destroy());
});
