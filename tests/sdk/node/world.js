// Where the gateway is, and clients for it. The harness is tests/it/sdk.rs.

export const REGION = "us-east-1";
export const HAIKU = "anthropic.claude-3-haiku-20240307-v1:0";
export const PROFILE_ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl";

const needed = (name) => {
  const value = process.env[`TOLLGATE_${name}`];
  if (!value) throw new Error(`TOLLGATE_${name} is not set; this suite is started by tests/it/sdk.rs`);
  return value.replace(/\/$/, "");
};

export const world = {
  plain: needed("PLAIN_URL"), // http://, HTTP/1.1 and h2c
  tls: needed("TLS_URL"), // https://, under NODE_EXTRA_CA_CERTS
  anonymous: needed("ANONYMOUS_URL"), // http://, a gateway that asks nobody who they are
  token: needed("TOKEN"), // JWT of the tenant `demo`
  expired: needed("EXPIRED_TOKEN"), // the same, past its `exp`
  limited: needed("LIMITED_TOKEN"), // JWT of a user who may send one request a second, burst 1
  metered: needed("METERED_TOKEN"), // JWT of a tenant that may use 10,000 tokens a day
  paced: needed("PACED_TOKEN"), // JWT of a tenant that may use 10,000 tokens a second, 2,000 at once
  brief: needed("BRIEF_TOKEN"), // JWT of a tenant whose streams end after 40 tokens
  spent: needed("SPENT_TOKEN"), // JWT of a tenant whose quota is spent: each client calls with it once, and tests/it/sdk.rs counts what came of that
};

/** The gateway that knows issued keys, and keys that it issued. */
export const issued = {
  plain: needed("ISSUED_PLAIN_URL"),
  tls: needed("ISSUED_TLS_URL"),
  apiKey: needed("API_KEY"),
  accessKeyId: needed("ACCESS_KEY_ID"),
  secretAccessKey: needed("SECRET_ACCESS_KEY"),
};

/** A model id that asks the emulator for faults (src/emulator/faults.rs). */
export const model = (...faults) => `anthropic.claude-emulator.${faults.join(".")}:0`;

export const says = (text) => [{ role: "user", content: [{ text }] }];

export const bearer = (token) => ({ token: { token }, authSchemePreference: ["httpBearerAuth"] });

/** Every item of an asynchronous iterable up to its end or its error. */
export async function drain(stream) {
  const items = [];
  try {
    for await (const item of stream) items.push(item);
    return { items };
  } catch (error) {
    return { items, error };
  }
}

/** The error that `call` ends with; it fails when there is none. */
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call should have failed, and succeeded");
}
