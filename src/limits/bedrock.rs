//! How Bedrock counts tokens against an account's quota ("How tokens are counted in Amazon Bedrock", User Guide).
//!
//! When a call begins, its whole input and the output that it allows are reserved, each once; when it ends, input, what it wrote to a cache and its output, as
//! often as that counts (the burndown rate), take their place. So a call may come to up to five times what was reserved for it, and Bedrock knows that before
//! the gateway does: by the time that an answer's end takes to arrive. What is admitted in between would be throttled. Therefore an account's quota
//! ([`held`]) has a call hold what it may come to, not what Bedrock reserves, as far as the gateway will not hear of it in time: an answer in one piece tells
//! its usage when it is over, a stream with each event ([`super::Admission::grow`]).

use crate::config::limits::{Account, Count};
use crate::domain::{Asked, Glob, Tokens, model_name, split_geography};

/// Output tokens that an answer in one piece comes to at most, for all that is held beforehand: what a fast model makes in a minute, after which most clients
/// have given up (boto3's default). What comes beyond is a matter of the quota's headroom.
const IN_ONE_PIECE: u64 = 12_288;

/// What a call holds of an account's quota while it is under way, and what Bedrock reserves for it, in units of account. `model`: in whatever spelling.
pub(super) fn held(asked: &Asked, account: &Account, burndown: &[(Glob, u32)], model: Option<&str>) -> (u64, u64) {
    let model = account.model.is_none().then(|| model.map(model_name)).flatten();
    let model = account.model.as_deref().or(model.as_deref());
    let output = asked.max_tokens.or(account.reserve).unwrap_or_else(|| model.map_or(MOST, most_output));
    let reserved = asked.input_tokens().saturating_add(output);
    let in_the_end = Tokens { input: asked.input_tokens(), output: output.min(IN_ONE_PIECE), ..Tokens::default() };
    let reserved = reserved.max(1).saturating_mul(Count::Tokens.scale());
    let held = if asked.streamed { reserved } else { reserved.max(used(&in_the_end, times(burndown, Some(account), model))) };
    (held, reserved)
}

/// What a call has used, in units of account: input and what is written to a cache, and output so many `times`; nothing of what is read from a cache.
pub(super) fn used(tokens: &Tokens, times: u32) -> u64 {
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    let all = tokens.input.saturating_add(written).saturating_add(tokens.output.saturating_mul(times.into()));
    all.saturating_mul(Count::Tokens.scale())
}

/// How often output counts. `model`: in its one spelling. Against an account's quota a profile that does not tell its model counts as the dearest.
pub(super) fn times(burndown: &[(Glob, u32)], account: Option<&Account>, model: Option<&str>) -> u32 {
    let Some(model) = account.and_then(|account| account.model.as_deref()).or(model) else { return 1 };
    let own = burndown.iter().find(|(models, _)| models.matches(model)).map(|(_, times)| *times);
    own.unwrap_or_else(|| if account.is_some() && model.starts_with("arn:") { 5 } else { known_burndown(model) })
}

/// How often output of a model counts: five times of Anthropic's since Claude 3.7, once of others.
///
/// Anthropic's models that are not known yet count five times as well: a rule that counts too much leaves some of the account's quota unused, and one that
/// counts too little has everybody throttled by Bedrock. Nobody can tell which model stands behind an application inference profile; it counts once.
/// `burndown` says otherwise of either.
fn known_burndown(model: &str) -> u32 {
    if model.starts_with("anthropic.claude-") && !ONCE.iter().any(|family| model.starts_with(family)) { 5 } else { 1 }
}

/// Anthropic's models whose output counts once.
const ONCE: [&str; 8] = [
    "anthropic.claude-v1",
    "anthropic.claude-v2",
    "anthropic.claude-instant-",
    "anthropic.claude-3-haiku-",
    "anthropic.claude-3-sonnet-",
    "anthropic.claude-3-opus-",
    "anthropic.claude-3-5-haiku-",
    "anthropic.claude-3-5-sonnet-",
];

/// The most output of models that nothing is known of.
const MOST: u64 = 64_000;

/// The most output that a model gives: what Bedrock reserves for a call that does not say less. The first that fits. The figures are of the model cards;
/// `reserve` says otherwise.
const MOST_OUTPUT: [(&str, u64); 16] = [
    ("anthropic.claude-v", 4_096),
    ("anthropic.claude-instant-", 4_096),
    ("anthropic.claude-3-haiku-", 4_096),
    ("anthropic.claude-3-sonnet-", 4_096),
    ("anthropic.claude-3-opus-", 4_096),
    ("anthropic.claude-3-5-", 8_192),
    ("anthropic.claude-opus-4-20250514", 32_000),
    ("anthropic.claude-opus-4-1-", 32_000),
    ("anthropic.claude-opus-4-6", 128_000),
    ("amazon.nova-2-", 64_000),
    ("amazon.nova-", 10_000),
    ("amazon.titan-embed", 0),
    ("cohere.embed", 0),
    ("amazon.titan-", 8_192),
    ("meta.llama", 8_192),
    ("mistral.", 8_192),
];

fn most_output(model: &str) -> u64 {
    MOST_OUTPUT.iter().find(|(family, _)| model.starts_with(family)).map_or(MOST, |(_, most)| *most)
}

/// A pattern as models are spelled in the end: in lower case, and without a geography.
pub(super) fn spelled(models: &Glob) -> Glob {
    let models = models.to_string().to_ascii_lowercase();
    Glob::new(split_geography(&models).map_or(&*models, |(_, models)| models))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    const NOVA: &str = "amazon.nova-lite-v1:0";

    /// 100 tokens of input; what is held and what Bedrock reserves, in whole tokens.
    fn of(max_tokens: Option<u64>, streamed: bool, account: &Account, model: &str) -> (u64, u64) {
        let asked = Asked { text_bytes: 300, max_tokens, streamed, ..Asked::default() };
        let (held, reserved) = held(&asked, account, &[], Some(model));
        (held / 1_000, reserved / 1_000)
    }

    #[test]
    fn an_answer_in_one_piece_holds_what_it_may_come_to_and_a_stream_what_bedrock_reserves() {
        let any = Account::default();
        assert_eq!(of(Some(1_000), false, &any, SONNET), (5_100, 1_100));
        assert_eq!(of(Some(1_000), true, &any, SONNET), (1_100, 1_100));
        assert_eq!(of(Some(1_000), false, &any, NOVA), (1_100, 1_100), "its output counts once");
        assert_eq!(of(Some(0), false, &any, SONNET), (100, 100));
    }

    #[test]
    fn no_answer_in_one_piece_is_taken_to_be_longer_than_a_minutes_work() {
        let any = Account::default();
        assert_eq!(of(Some(20_000), false, &any, SONNET), (100 + 5 * IN_ONE_PIECE, 20_100));
        assert_eq!(of(Some(64_000), false, &any, SONNET), (64_100, 64_100), "what Bedrock reserves is more than that");
    }

    #[test]
    fn a_call_that_does_not_say_has_the_models_own_maximum_reserved() {
        let any = Account::default();
        for (model, most) in [
            (SONNET, 64_000),
            ("eu.anthropic.claude-opus-4-1-20250805-v1:0", 32_000),
            ("anthropic.claude-3-haiku-20240307-v1:0", 4_096),
            ("amazon.titan-embed-text-v2:0", 0),
            ("acme.unheard-of-v1", MOST),
        ] {
            assert_eq!(of(None, true, &any, model).1, 100 + most, "{model}");
        }
        assert_eq!(of(None, true, &Account { reserve: Some(500), ..Account::default() }, SONNET).1, 600);
        assert_eq!(of(Some(7), true, &Account { reserve: Some(500), ..Account::default() }, SONNET).1, 107, "the call's own word counts");
    }

    #[test]
    fn a_profile_counts_as_the_model_that_it_is_said_to_be_and_else_as_the_dearest() {
        let profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl";
        let says = |model: &str| Account { model: Some(model_name(model).into_owned()), ..Account::default() };
        assert_eq!(of(Some(1_000), false, &says(NOVA), profile).0, 1_100);
        assert_eq!(of(Some(1_000), false, &says(SONNET), profile).0, 5_100);
        assert_eq!(of(Some(1_000), false, &Account::default(), profile).0, 5_100);
        assert_eq!(times(&[], None, Some(profile)), 1, "a limit of the operator's says it by `burndown`");
    }
}
