//! Thousands of calls of every kind, with failures and clients that leave: what the gateway writes down against what the emulator billed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tollgate::domain::{TokenKind, Tokens, Usd};
use tollgate::emulator::{Bill, Options, Usage};
use tollgate::record::{By, Reconciliation, UsageQuery, reconcile, usage};

use crate::downstream::{Ask, Client, Way};
use crate::record::log;
use crate::world::{Dir, Setting, World};

/// All calls of one run; `TOLLGATE_CALLS` asks for more or less.
const CALLS: usize = 10_000;
const WORKERS: usize = 24;

const HAIKU: &str = "anthropic.claude-3-haiku-20240307-v1:0";
const NOVA: &str = "amazon.nova-lite-v1:0";

/// One kind of call.
struct Kind {
    path: String,
    body: Value,
    /// It is answered as a stream.
    streamed: bool,
    /// Words that its client is sent can be counted in the bytes: they are not in base64.
    legible: bool,
}

/// Every shape of an answer that tells what it used, or does not.
fn kinds() -> Vec<Kind> {
    let messages = json!([{ "role": "user", "content": "tell me one two three" }]);
    let blocks = json!([{ "role": "user", "content": [{ "text": "tell me one two three" }] }]);
    let converse = json!({ "messages": blocks, "inferenceConfig": { "maxTokens": 400 } });
    let anthropic = json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 400, "messages": messages });
    let nova = json!({ "messages": blocks, "inferenceConfig": { "maxTokens": 400 } });
    let chat = |stream: bool, usage: bool| json!({ "model": "openai.gpt-oss-20b-1:0", "messages": messages, "stream": stream, "stream_options": { "include_usage": usage } });
    let kind = |path: &str, body: Value, streamed, legible| Kind { path: path.to_owned(), body, streamed, legible };
    let mut kinds = vec![
        kind(&format!("/model/{NOVA}/converse"), converse.clone(), false, true),
        kind(&format!("/model/{NOVA}/converse-stream"), converse.clone(), true, true),
        kind("/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream", converse, true, true),
        kind("/openai/v1/chat/completions", chat(false, false), false, true),
        kind("/openai/v1/chat/completions", chat(true, true), true, true),
        kind("/openai/v1/chat/completions", chat(true, false), true, true),
        kind("/openai/v1/responses", json!({ "model": "openai.gpt-oss-20b-1:0", "input": "tell me one two" }), false, true),
        kind("/openai/v1/responses", json!({ "model": "openai.gpt-oss-20b-1:0", "input": "tell me one two", "stream": true }), true, true),
        kind("/anthropic/v1/messages", json!({ "model": HAIKU, "max_tokens": 400, "messages": messages }), false, true),
        kind("/anthropic/v1/messages", json!({ "model": HAIKU, "max_tokens": 400, "stream": true, "messages": messages }), true, true),
        kind(
            "/bedrock-agent-runtime/agents/AGENT12345/agentAliases/ALIAS12345/sessions/s1/text",
            json!({ "inputText": "tell me one two three", "enableTrace": true }),
            true,
            false,
        ),
        kind(&format!("/model/{NOVA}/count-tokens"), json!({ "input": { "converse": { "messages": blocks } } }), false, true),
    ];
    for (model, body) in [
        (HAIKU, anthropic),
        (NOVA, nova),
        ("amazon.titan-text-express-v1", json!({ "inputText": "tell me one two three" })),
        ("meta.llama3-8b-instruct-v1:0", json!({ "prompt": "tell me one two three", "max_gen_len": 400 })),
        ("mistral.mistral-7b-instruct-v0:2", json!({ "prompt": "tell me one two three", "max_tokens": 400 })),
        ("cohere.command-r-v1:0", json!({ "message": "tell me one two three", "max_tokens": 400 })),
    ] {
        kinds.push(kind(&format!("/model/{model}/invoke"), body.clone(), false, false));
        kinds.push(kind(&format!("/model/{model}/invoke-with-response-stream"), body, true, false));
    }
    kinds.push(kind("/model/amazon.titan-embed-text-v2:0/invoke", json!({ "inputText": "one two three" }), false, false));
    kinds.push(kind(
        "/model/cohere.embed-english-v3/invoke",
        json!({ "texts": ["one two", "three"], "input_type": "search_query" }),
        false,
        false,
    ));
    kinds
}

/// What goes wrong, and how often: of so many calls that are made.
fn fault(at: usize, kind: &Kind) -> &'static str {
    match (at % 17, kind.streamed) {
        (3, _) => "429",
        (5, _) => "500",
        (6, true) => "words-30, close-between-frames",
        (7, true) => "words-30, close-mid-frame",
        (7, false) => "close",
        (8, _) => "usage-21-9-300-40-50",
        (9, _) => "words-120",
        (10, _) => "no-usage",
        (11, true) => "words-60, slow-events-1",
        (12, true) => "split-3",
        (13, true) => "words-25, throttlingException",
        _ => "",
    }
}

/// What one client saw of its answer.
struct Seen {
    request_id: String,
    words: usize,
    left: bool,
}

/// Sends the calls; every third stream loses its client at some point.
async fn send_all(world: &Arc<World>, calls: usize) -> Vec<Seen> {
    let (kinds, next, seen) = (Arc::new(kinds()), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (world, kinds, next, seen) = (Arc::clone(world), Arc::clone(&kinds), Arc::clone(&next), Arc::clone(&seen));
            tokio::spawn(async move {
                let way = if worker % 2 == 0 { Way::Http1 } else { Way::H2c };
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= calls {
                        return;
                    }
                    let kind = &kinds[at % kinds.len()];
                    // Coprime strides, so that every kind meets every fault and every way to leave.
                    let leaves = (kind.streamed && (at / 3).is_multiple_of(3)).then_some(at % 7);
                    let fault = if leaves.is_some() { "words-60, slow-events-2" } else { fault(at / kinds.len() + at, kind) };
                    let ask = Ask::post(&kind.path, kind.body.to_string()).token(&world.token).fault(fault);
                    let one = one_call(&world, way, &ask, kind, leaves).await;
                    seen.lock().extend(one);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    std::mem::take(&mut seen.lock())
}

async fn one_call(world: &World, way: Way, ask: &Ask, kind: &Kind, leaves: Option<usize>) -> Option<Seen> {
    let client = Client::connect(world, way).await;
    if !kind.streamed {
        let mut client = client;
        let answer = client.call(ask).await;
        let request_id = answer.header("x-amzn-requestid").unwrap().to_owned();
        return Some(Seen { request_id, words: 0, left: false });
    }
    let opening = client.send(ask).await;
    if leaves == Some(0) {
        drop(opening.leave());
        return None;
    }
    let mut incoming = opening.head().await;
    let request_id = incoming.headers.get("x-amzn-requestid").unwrap().to_str().unwrap().to_owned();
    if incoming.status != 200 {
        return Some(Seen { request_id, words: 0, left: false });
    }
    let mut bytes = Vec::new();
    for _ in 0..leaves.map_or(usize::MAX, |pieces| pieces * 4) {
        match incoming.piece().await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) | Err(_) => return Some(Seen { request_id, words: 0, left: false }),
        }
    }
    drop(incoming.leave());
    let words = if kind.legible { bytes.windows(4).filter(|window| window == b"word").count() } else { 0 };
    Some(Seen { request_id, words, left: true })
}

fn tokens_of(line: &Value) -> Tokens {
    let number = |name: &str| line[name].as_u64().unwrap_or(0);
    Tokens {
        input: number("input_tokens"),
        output: number("output_tokens"),
        cache_read: number("cache_read_tokens"),
        cache_write_5m: number("cache_write_5m_tokens"),
        cache_write_1h: number("cache_write_1h_tokens"),
        reasoning: 0,
    }
}

/// What the log says of one call, in the words of the bill. Not everywhere is told for how long a cache is written: what was written counts in all.
fn in_all(usage: Usage) -> [u64; 4] {
    [usage.input, usage.output, usage.cache_read, usage.cache_write_5m + usage.cache_write_1h]
}

fn logged_in_all(tokens: Tokens) -> [u64; 4] {
    [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m + tokens.cache_write_1h]
}

/// Sums of what is written down, by model, as (calls, tokens by kind, picodollars, unpriced calls).
type Sums = BTreeMap<String, (u64, [u64; 5], u64, u64)>;

fn by_kind(tokens: &Tokens) -> [u64; 5] {
    TokenKind::ALL.map(|kind| tokens.of(kind))
}

fn picos(decimal: &str) -> u64 {
    let (dollars, rest) = decimal.split_once('.').unwrap_or((decimal, ""));
    dollars.parse::<u64>().unwrap() * Usd::PICOS + format!("{rest:0<12}").parse::<u64>().unwrap()
}

fn log_sums(lines: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for line in lines {
        let named = line["status"].as_u64().is_some_and(|status| status < 300) && line["upstream_request_id"].is_string();
        let model = line["model"].as_str().map_or("", |model| if named { model } else { "other" });
        let sum = sums.entry(model.to_owned()).or_default();
        sum.0 += 1;
        for (at, count) in by_kind(&tokens_of(line)).into_iter().enumerate() {
            sum.1[at] += count;
        }
        sum.2 += line["cost_usd"].as_str().map_or(0, picos);
        sum.3 += u64::from(line["unpriced"] == true);
    }
    sums
}

fn ledger_sums(file: &Path) -> Sums {
    let now = SystemTime::now();
    let query =
        UsageQuery { tenant: None, by: Some(By::Model), since: now - Duration::from_hours(2), until: now + Duration::from_hours(1) };
    let rows = usage(file, &query).unwrap();
    let sum = |row: &tollgate::record::UsageRow| (row.calls, by_kind(&row.tokens), row.cost.picos(), row.unpriced_calls);
    rows.iter().map(|row| (row.keys.iter().find(|(name, _)| *name == "model").unwrap().1.clone(), sum(row))).collect()
}

/// The values of all series of a family whose line has `part`.
fn values<'m>(metrics: &'m str, family: &'m str, part: &'m str) -> impl Iterator<Item = &'m str> {
    let lines = metrics.lines().filter(move |line| line.starts_with(&format!("{family}{{")) && line.contains(part));
    lines.map(|line| line.rsplit(' ').next().unwrap())
}

/// A run in one mode: the lines of the log, the bills by request id, what clients saw, and what Bedrock's own log says beside the ledger.
async fn run(rule: &str) -> (Vec<Value>, BTreeMap<String, Bill>, Vec<Seen>, Reconciliation) {
    let yaml = format!(
        "routes: [{{ name: everything, to: [{{ upstream: emulator }}], on_disconnect: {rule} }}]\n\
         record: {{ access_log: {{ to: access.log }}, ledger: ledger.sqlite }}"
    );
    let logs = Dir::new();
    let emulator = Options { invocation_logs: Some(logs.join("")), ..Options::default() };
    let world = Arc::new(World::build(Setting { yaml, emulator, ..Setting::default() }).await);
    let calls = std::env::var("TOLLGATE_CALLS").map_or(CALLS, |calls| calls.parse().unwrap());
    let seen = send_all(&world, calls).await;
    world.until_idle().await;
    let lines = log(&world).await;
    // A client that leaves at once may have left before its request was read.
    assert!((seen.len()..=calls).contains(&lines.len()), "{} lines of {calls} calls, {} answered", lines.len(), seen.len());

    // What is written down agrees with itself: log, ledger, metrics.
    let sums = log_sums(&lines);
    assert_eq!(ledger_sums(&world.dir.join("ledger.sqlite")), sums, "the ledger and the log");
    let metrics = world.metrics();
    for (at, kind) in TokenKind::ALL.into_iter().enumerate() {
        let expected: u64 = sums.values().map(|sum| sum.1[at]).sum();
        let label = format!(r#"type="{}""#, kind.label());
        let counted: u64 = values(&metrics, "tollgate_tokens_total", &label).map(|value| value.parse::<u64>().unwrap()).sum();
        assert_eq!(counted, expected, "{label}");
    }
    let cost: u64 = sums.values().map(|sum| sum.2).sum();
    assert_eq!(values(&metrics, "tollgate_cost_usd_total", "").map(picos).sum::<u64>(), cost);
    assert!(cost > 0);

    let bills = world.emulator.bills().into_iter().map(|bill| (bill.request_id.clone(), bill)).collect();
    world.emulator.flush_invocation_logs().unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(2);
    let soon = SystemTime::now() + Duration::from_hours(1);
    let reconciled = reconcile(&world.dir.join("ledger.sqlite"), &logs.join(""), Some(long_ago), Some(soon)).unwrap();
    (lines, bills, seen, reconciled)
}

/// Compares each bill with its line. Returns how many agree to the token, and how many were estimated.
fn compare(lines: &[Value], bills: &BTreeMap<String, Bill>, mut estimated: impl FnMut(&Bill, &Value)) -> (usize, usize) {
    let line_of: BTreeMap<&str, &Value> = lines.iter().filter_map(|line| Some((line["upstream_request_id"].as_str()?, line))).collect();
    let (mut exact, mut guessed) = (0, 0);
    for (id, bill) in bills {
        // A client that leaves before the answer's head takes its id with it, where the call is cancelled.
        let Some(line) = line_of.get(id.as_str()) else { continue };
        assert!(bill.ended, "{bill:?}");
        if line["usage"] == "reported" {
            exact += 1;
            assert_eq!(logged_in_all(tokens_of(line)), in_all(bill.usage), "{bill:?} {line}");
        } else {
            assert_eq!(line["usage"], "estimated", "{bill:?} {line}");
            guessed += 1;
            estimated(bill, line);
        }
    }
    (exact, guessed)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_answers_are_drained_every_bill_is_met_to_the_token() {
    let (lines, bills, seen, reconciled) = run("drain").await;
    let (exact, guessed) = compare(&lines, &bills, |bill, line| {
        // Only what the upstream itself did not tell: it broke off, was made to tell no usage, or is a stream of chat whose client asked for none.
        let untold = bill.operation == "ChatCompletions" || line["client_left"].is_null();
        assert!(!bill.whole || untold, "{bill:?} {line}");
        assert!(tokens_of(line).output >= bill.usage.output, "{bill:?} {line}");
    });
    // And so says Bedrock's own log of what it was asked for, model by model.
    for row in reconciled.compared.iter().filter(|row| !row.estimated) {
        assert_eq!(row.ledger, row.aws, "{} {}", row.tenant, row.model);
    }
    assert!(reconciled.only_aws.is_empty(), "{:?}", reconciled.only_aws);
    assert!(reconciled.compared.len() > 10, "{:?}", reconciled.compared);
    let left: Vec<&Seen> = seen.iter().filter(|seen| seen.left).collect();
    for seen in &left {
        let bill = &bills[&seen.request_id];
        assert!(bill.whole, "an answer whose client left was read to its end: {bill:?}");
    }
    assert!(
        left.len() * 20 > lines.len() && exact * 2 > lines.len() && guessed > 0,
        "{} left, {exact} exact, {guessed} guessed",
        left.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_answers_are_cancelled_an_estimate_is_marked_and_never_below_what_was_delivered() {
    let (lines, bills, seen, _) = run("cancel").await;
    let (mut booked, mut billed) = (0, 0);
    let (exact, guessed) = compare(&lines, &bills, |bill, line| {
        booked += tokens_of(line).output;
        billed += bill.usage.output;
    });
    assert!(booked >= billed, "estimates are {booked}, bills are {billed}");
    let line_of: BTreeMap<&str, &Value> = lines.iter().filter_map(|line| Some((line["upstream_request_id"].as_str()?, line))).collect();
    let mut cut = 0;
    for seen in seen.iter().filter(|seen| seen.left) {
        let line = line_of[seen.request_id.as_str()];
        let output = tokens_of(line).output;
        assert!(output >= u64::try_from(seen.words).unwrap(), "{} words were delivered: {line}", seen.words);
        cut += usize::from(line["client_left"] == true && line["usage"] == "estimated");
    }
    assert!(cut * 20 > lines.len() && exact > cut && guessed >= cut, "{cut} cut, {exact} exact, {guessed} guessed");
}
