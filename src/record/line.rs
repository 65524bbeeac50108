//! The access log's line. `docs/access-log.md` is its contract: a field may be added, none changes its meaning.

use super::entry::{Entry, Tried};
use super::json::Object;
use crate::domain::{Basis, Cost, GuardrailUnits, Usage};

/// Most bytes of a path, before escaping.
pub(super) const MOST_PATH: usize = 512;
/// Most bytes of a user agent, before escaping.
pub(super) const MOST_USER_AGENT: usize = 200;
/// Most bytes of a model id, a tenant, a user, a key's id, an upstream's key or its request id, before escaping.
pub(super) const MOST_NAME: usize = 256;
/// Most bytes of what the configuration names: a route, a target, the upstream of a try. It allows no more.
pub(super) const MOST_CONFIGURED: usize = 64;
/// Most tries that were given up; those beyond are counted in `attempts`.
pub(super) const MOST_TRIED: usize = 16;
/// Most bytes of the request id of a try, before escaping; Bedrock's have 36.
const MOST_REQUEST_ID: usize = 64;
/// Most bytes of a method, before escaping: any token is one.
pub(super) const MOST_METHOD: usize = 32;
/// Most bytes of an operation: [`Call::operation`](crate::domain::Call::operation) has no more.
pub(super) const MOST_OPERATION: usize = 40;

/// Most bytes of a line without tries that were given up, and of each of them.
#[cfg(test)]
pub(super) const MOST_LINE: [usize; 2] = [22_000, 3_200];

/// Stands in the path for the model id, so that lines of one operation have one path.
const MODEL: &[u8] = b"{model}";

/// Appends the line of `entry` and its line feed. With the bounds above it has at most 22,000 bytes (each byte escaped to six), and 3,200 for
/// each try that was given up; about 900 usually.
pub(super) fn append(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut object = Object::begin(out);
    object.time("time", entry.began);
    object.text("request_id", [entry.request_id.as_str().as_bytes()], MOST_NAME);
    object.hex("trace_id", entry.trace.trace_id);
    if let Some(client) = entry.client {
        object.address("client", client);
    }
    if let Some(principal) = entry.principal {
        object.text("tenant", [principal.tenant.as_bytes()], MOST_NAME);
        if let Some(user) = &principal.user {
            object.text("user", [user.as_bytes()], MOST_NAME);
        }
        if let Some(key) = &principal.key_id {
            object.text("key_id", [key.as_bytes()], MOST_NAME);
        }
        object.text("identity", [principal.method.label().as_bytes()], MOST_NAME);
    }
    object.text("http_version", [version(entry.version)], MOST_NAME);
    object.text("method", [entry.method.as_bytes()], MOST_METHOD);
    if let Some(service) = entry.service {
        object.text("service", [service.prefix.as_bytes()], MOST_NAME);
    }
    if let Some(operation) = entry.operation {
        object.text("operation", [operation.as_bytes()], MOST_OPERATION);
    }
    path(&mut object, entry.path, entry.model);
    if let Some(model) = entry.model {
        object.text("model", [model.as_bytes()], MOST_NAME);
    }
    if let Some(alias) = entry.alias {
        object.text("alias", [alias.as_bytes()], MOST_NAME);
    }
    if let Some(status) = entry.status {
        object.number("status", status.into());
    }
    if let Some(reason) = entry.reason {
        object.text("reason", [reason.label().as_bytes()], MOST_NAME);
    }
    if !entry.shadow_policy.is_empty() {
        object.text("shadow_policy", [entry.shadow_policy.join(",").as_bytes()], MOST_NAME);
    }
    if let Some(limit) = entry.limit {
        object.text("limit", [limit.as_bytes()], MOST_NAME);
    }
    if !entry.shadow_limits.is_empty() {
        object.text("shadow_limits", [entry.shadow_limits.join(",").as_bytes()], MOST_NAME);
    }
    object.boolean("complete", entry.complete);
    if entry.client_left {
        object.boolean("client_left", true);
    }
    if entry.streamed {
        object.boolean("streamed", true);
    }
    if let Some(of) = entry.mirror_of {
        object.boolean("mirror", true);
        object.text("mirror_of", [of.as_str().as_bytes()], MOST_NAME);
    }
    for (key, name) in [("route", entry.route), ("target", entry.target)] {
        if let Some(name) = name {
            object.text(key, [name.as_bytes()], MOST_CONFIGURED);
        }
    }
    if let Some(upstream) = entry.upstream {
        object.text("upstream", [upstream.as_bytes()], MOST_NAME);
    }
    if let Some(id) = entry.upstream_request_id {
        object.text("upstream_request_id", [id], MOST_NAME);
    }
    object.number("attempts", entry.attempts.into());
    if !entry.tried.is_empty() {
        object.objects("tried", entry.tried.iter().take(MOST_TRIED), |object, tried| self::tried(object, entry, tried));
    }
    object.number("bytes_in", entry.bytes_in);
    object.number("bytes_out", entry.bytes_out);
    if let Some(used) = entry.usage {
        usage(&mut object, used);
    }
    cost(&mut object, entry.cost);
    for (key, time) in [("upstream_us", entry.upstream_time), ("first_token_us", entry.first_token), ("last_token_us", entry.last_token)] {
        if let Some(time) = time {
            object.number(key, micros(time));
        }
    }
    if !entry.waited.is_zero() {
        object.number("waited_us", micros(entry.waited));
    }
    object.number("overhead_us", micros(entry.overhead));
    object.number("total_us", micros(entry.total));
    if let Some(agent) = entry.user_agent {
        object.text("user_agent", [agent], MOST_USER_AGENT);
    }
    object.end();
    out.push(b'\n');
}

/// A try that was given up: where, how it ended, and what it used all the same.
fn tried(object: &mut Object<'_>, entry: &Entry<'_>, tried: &Tried) {
    object.text("upstream", [tried.upstream.as_bytes()], MOST_CONFIGURED);
    object.text("target", [tried.target.as_bytes()], MOST_CONFIGURED);
    if let Some(model) = tried.model.as_deref().filter(|model| Some(*model) != entry.model) {
        object.text("model", [model.as_bytes()], MOST_NAME);
    }
    object.text("outcome", [tried.outcome.label().as_bytes()], MOST_NAME);
    if let Some(status) = tried.status {
        object.number("status", status.into());
    }
    if let Some(id) = &tried.upstream_request_id {
        object.text("upstream_request_id", [id], MOST_REQUEST_ID);
    }
    object.number("took_us", micros(tried.took));
    if let Some(used) = &tried.usage {
        usage(object, used);
    }
    cost(object, tried.cost);
}

fn cost(object: &mut Object<'_>, cost: Cost) {
    match cost {
        Cost::Nothing => {}
        Cost::Priced(sum) => object.dollars("cost_usd", sum),
        Cost::Unpriced => object.boolean("unpriced", true),
    }
}

/// What it used: input and output always, the rest where there is any.
fn usage(object: &mut Object<'_>, usage: &Usage) {
    let basis: &[u8] = match usage.basis {
        Basis::Reported => b"reported",
        Basis::Estimated => b"estimated",
    };
    object.text("usage", [basis], MOST_NAME);
    let tokens = &usage.tokens;
    object.number("input_tokens", tokens.input);
    object.number("output_tokens", tokens.output);
    for (key, count) in [
        ("cache_read_tokens", tokens.cache_read),
        ("cache_write_5m_tokens", tokens.cache_write_5m),
        ("cache_write_1h_tokens", tokens.cache_write_1h),
        ("reasoning_tokens", tokens.reasoning),
        ("guardrail_units", guardrail_units(usage)),
    ] {
        if count > 0 {
            object.number(key, count);
        }
    }
    if let Some(tier) = usage.tier {
        object.text("service_tier", [tier.label().as_bytes()], MOST_NAME);
    }
}

/// Text units and images that guardrails looked at, all policies together.
fn guardrail_units(usage: &Usage) -> u64 {
    // Named one by one: a policy to come must be thought of here, or this does not compile.
    let GuardrailUnits { topic, content, content_image, sensitive_information, contextual_grounding, automated_reasoning } =
        usage.guardrail;
    [topic, content, content_image, sensitive_information, contextual_grounding, automated_reasoning]
        .into_iter()
        .fold(0, u64::saturating_add)
}

/// The path without a query, and with `{model}` in place of the model id.
fn path(object: &mut Object<'_>, path: &[u8], model: Option<&str>) {
    // A call's path has no query; that of a request refused before it was read may, and a query may hold a presigned credential.
    let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
    match model.and_then(|model| around(path, model.as_bytes())) {
        Some((before, after)) => object.text("path", [before, MODEL, after], MOST_PATH),
        None => object.text("path", [path], MOST_PATH),
    }
}

/// What stands in `path` before and after whole segments that spell `name`, percent-encoded or not.
fn around<'a>(path: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    if name.is_empty() {
        return None;
    }
    memchr::memchr_iter(b'/', path).find_map(|slash| {
        let (before, segment) = path.split_at_checked(slash + 1)?;
        let after = after_spelling(segment, name)?;
        matches!(after, [] | [b'/', ..]).then_some((before, after))
    })
}

/// What follows `name` where `text` begins with it, percent-encoded (RFC 3986, 2.1) or not.
fn after_spelling<'a>(mut text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for &wanted in name {
        let (byte, rest) = match text {
            [b'%', high, low, rest @ ..] => (hex(*high)? << 4 | hex(*low)?, rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        if byte != wanted {
            return None;
        }
        text = rest;
    }
    Some(text)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn version(version: http::Version) -> &'static [u8] {
    match version {
        http::Version::HTTP_09 => b"0.9",
        http::Version::HTTP_10 => b"1.0",
        http::Version::HTTP_11 => b"1.1",
        http::Version::HTTP_2 => b"2",
        http::Version::HTTP_3 => b"3",
        // The type is open, the list of versions is not: this arm is for the compiler.
        _ => b"unknown",
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn logged_path(path: &str, model: &str) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        super::path(&mut object, path.as_bytes(), Some(model));
        object.end();
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()["path"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_model_in_a_path_gives_way_to_its_name() {
        let profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
        assert_eq!(logged_path("/model/amazon.nova-lite-v1:0/converse", "amazon.nova-lite-v1:0"), "/model/{model}/converse");
        assert_eq!(logged_path("/model/amazon.nova-lite-v1%3A0/converse", "amazon.nova-lite-v1:0"), "/model/{model}/converse");
        assert_eq!(
            logged_path("/model/arn%3Aaws%3abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/invoke", profile),
            "/model/{model}/invoke"
        );
        assert_eq!(logged_path(&format!("/model/{profile}/invoke"), profile), "/model/{model}/invoke");
        assert_eq!(logged_path("/foundation-models/m", "m"), "/foundation-models/{model}");
    }

    #[test]
    fn a_path_that_does_not_spell_the_model_is_left_alone() {
        assert_eq!(logged_path("/openai/v1/chat/completions", "openai.gpt-oss-20b-1:0"), "/openai/v1/chat/completions");
        assert_eq!(logged_path("/models/converse", "model"), "/models/converse");
        assert_eq!(logged_path("/model/%zz/converse", "%zz"), "/model/%zz/converse");
        assert_eq!(logged_path("/model//converse", ""), "/model//converse");
        assert_eq!(logged_path("", "m"), "");
    }

    #[test]
    fn a_query_is_not_written() {
        assert_eq!(logged_path("/model/m/converse?X-Amz-Signature=abc?d", "m"), "/model/{model}/converse");
    }
}
