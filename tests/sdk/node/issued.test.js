// Keys that the gateway itself issued: a credential that the SDK signs with (over h2c, HTTP/2 and HTTP/1.1), and an API key.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import { AnthropicBedrock } from "@anthropic-ai/bedrock-sdk";
import { BedrockClient, ListFoundationModelsCommand, ListInferenceProfilesCommand } from "@aws-sdk/client-bedrock";
import { BedrockAgentRuntimeClient, CreateSessionCommand, RetrieveCommand } from "@aws-sdk/client-bedrock-agent-runtime";
import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";
import OpenAI from "openai";

import { HAIKU, PROFILE_ARN, REGION, bearer, drain, failure, issued, says } from "./world.js";

const clients = [];
after(() => clients.forEach((client) => client.destroy()));

const keys = { accessKeyId: issued.accessKeyId, secretAccessKey: issued.secretAccessKey };

function connect(Client, endpoint, credentials = keys, more = { credentials }) {
  const client = new Client({ region: "eu-west-3", endpoint, ...more });
  clients.push(client);
  return client;
}

const converse = (modelId = HAIKU, text = "one two three") => new ConverseCommand({ modelId, messages: says(text) });
const oneTwo = { max_tokens: 64, messages: [{ role: "user", content: "one two" }] };

for (const [transport, endpoint] of [
  ["h2c", issued.plain],
  ["TLS", issued.tls],
]) {
  describe(`signed, over ${transport}`, () => {
    test("Converse and its stream pass, by model and by inference profile", async () => {
      const client = connect(BedrockRuntimeClient, endpoint);
      for (const model of [HAIKU, PROFILE_ARN]) {
        assert.equal((await client.send(converse(model))).usage.inputTokens, 3);
        const answer = await client.send(new ConverseStreamCommand({ modelId: model, messages: says("one two three") }));
        const { items, error } = await drain(answer.stream);
        assert.equal(error, undefined);
        assert.equal(items.at(-1).metadata.usage.inputTokens, 3);
      }
      assert.equal((await connect(BedrockRuntimeClient, `${endpoint}/bedrock-runtime`).send(converse())).usage.inputTokens, 3);
    });

    test("a large body passes", async () => {
      const answer = await connect(BedrockRuntimeClient, endpoint).send(converse(HAIKU, "lorem ".repeat(40_000)));
      assert.equal(answer.usage.inputTokens, 40_000);
    });

    test("the control plane passes, queries included", async () => {
      const client = connect(BedrockClient, endpoint);
      assert.ok((await client.send(new ListFoundationModelsCommand({ byProvider: "a/b c+d" }))).modelSummaries);
      assert.ok((await client.send(new ListInferenceProfilesCommand({ typeEquals: "SYSTEM_DEFINED", nextToken: "a+b/c==(!)" }))).inferenceProfileSummaries);
    });

    test("agents pass at their own endpoint", async () => {
      const client = connect(BedrockAgentRuntimeClient, `${endpoint}/bedrock-agent-runtime`);
      assert.equal((await client.send(new CreateSessionCommand({}))).$metadata.httpStatusCode, 200);
      const retrieve = new RetrieveCommand({ knowledgeBaseId: "KB12345678", retrievalQuery: { text: "x" } });
      assert.equal((await client.send(retrieve)).$metadata.httpStatusCode, 200);
    });

    test("Anthropic's client signs its way in", async () => {
      const client = (awsSecretKey) =>
        new AnthropicBedrock({ baseURL: endpoint, awsRegion: REGION, awsAccessKey: issued.accessKeyId, awsSecretKey });
      for (const model of [HAIKU, PROFILE_ARN]) {
        assert.equal((await client(issued.secretAccessKey).messages.create({ model, ...oneTwo })).usage.input_tokens, 2);
      }
      const error = await failure(() => client("another").messages.create({ model: HAIKU, ...oneTwo }));
      assert.equal(error.status, 403);
    });

    test("a wrong secret and an unknown id are refused as AWS refuses them", async () => {
      const refused = async (credentials) => {
        const error = await failure(() => connect(BedrockRuntimeClient, endpoint, credentials).send(converse()));
        assert.equal(error.$metadata.httpStatusCode, 403);
        return error.name;
      };
      assert.equal(await refused({ ...keys, secretAccessKey: "another" }), "InvalidSignatureException");
      assert.equal(await refused({ ...keys, accessKeyId: "AKIADUMMYDUMMYDUMMY1" }), "UnrecognizedClientException");
      assert.equal(await refused({ ...keys, sessionToken: "token" }), "UnrecognizedClientException");
    });

    test("what is changed after it was signed is refused", async () => {
      for (const change of [
        (request) => (request.body = request.body.replace("one", "two")),
        (request) => (request.path = request.path.replace("haiku", "opus")),
        (request) => (request.headers["content-type"] = "text/plain"),
        (request) => (request.headers["x-amz-extra"] = "1"),
      ]) {
        const client = connect(BedrockRuntimeClient, endpoint);
        client.middlewareStack.add((next) => (args) => (change(args.request), next(args)), { step: "finalizeRequest", priority: "low" });
        const error = await failure(() => client.send(converse()));
        assert.equal(error.name, "InvalidSignatureException", String(change));
      }
    });
  });
}

test("an API key is what any SDK takes for a key", async () => {
  assert.equal((await connect(BedrockRuntimeClient, issued.plain, undefined, bearer(issued.apiKey)).send(converse())).usage.inputTokens, 3);
  const bedrock = new AnthropicBedrock({ baseURL: issued.plain, awsRegion: REGION, apiKey: issued.apiKey });
  assert.equal((await bedrock.messages.create({ model: HAIKU, ...oneTwo })).usage.input_tokens, 2);
  // This one sends `x-api-key`.
  const direct = (apiKey) => new Anthropic({ baseURL: `${issued.plain}/anthropic`, apiKey });
  assert.equal((await direct(issued.apiKey).messages.create({ model: HAIKU, ...oneTwo })).usage.input_tokens, 2);
  const openai = new OpenAI({ baseURL: `${issued.plain}/openai/v1`, apiKey: issued.apiKey });
  assert.equal((await openai.chat.completions.create({ model: "openai.gpt-oss-20b-1:0", messages: oneTwo.messages })).usage.prompt_tokens, 2);
  const error = await failure(() => direct(issued.apiKey.slice(0, -1)).messages.create({ model: HAIKU, ...oneTwo }));
  assert.ok(error instanceof Anthropic.AuthenticationError);
});
