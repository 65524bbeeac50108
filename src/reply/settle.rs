//! Makes one usage of what was found, and estimates what was not told.
//!
//! An estimate is marked as one, and is never below what was delivered.
//!
//! * **Output.** A byte-level tokenizer makes at least one byte of text of a token, so the bytes of delivered text are the only strict upper bound of the
//!   tokens in them that holds for every model. `max_tokens` bounds them too, and so the lesser of both is taken; but not less than what was told so far
//!   and one token for each event that delivered text since. For English prose that is up to four times too much: an estimate stands for an answer
//!   that broke off, and whoever breaks answers off must not pay less for it. Where a limit ended it, the caller did not: it counts what the limit counted.
//! * **Input.** As [`Asked::input_tokens`] has it.

use super::Ended;
use super::found::{Found, Output};
use super::told::Told;
use crate::domain::{Asked, Basis, GuardrailUnits, Tokens, Usage};

/// What an answer used; none where it is no model's answer and no guardrail's.
pub(super) fn settle(found: &Found, asked: Option<&Asked>, ended: Ended, streamed: bool) -> Option<Usage> {
    if found.uses_nothing {
        return None;
    }
    let (own, bedrock) = (found.steps.as_ref().unwrap_or(&found.own), &found.bedrock);
    let told = Known::of(own, bedrock);
    let mut tokens = own.beside(bedrock);
    let mut basis = Basis::Reported;
    let whole = ended == Ended::Whole && !found.failed;
    let final_output = match found.output {
        Output::Untold | Output::Begun => false,
        Output::SoFar => whole || !streamed,
        Output::Final => true,
    };
    // An unary answer tells its total wherever in the body it stands; of a stream, what came later is not in it.
    let told_all = told.output && (!streamed || (final_output && found.text_since() == 0 && (whole || found.steps.is_none())));
    let untold_is_none = told.input && !streamed && found.text_since() == 0 && ended == Ended::Whole;
    if !(told.input && (told_all || untold_is_none)) {
        if is_estimable(found, &told, asked, ended, streamed) {
            basis = Basis::Estimated;
            if !told.input {
                tokens.input = asked.map_or(0, Asked::input_tokens);
            }
            if !told_all {
                tokens.output = output(found, tokens.output, asked, ended);
            }
        } else {
            tokens = Tokens::default();
        }
    }
    let guardrail = found.guardrail();
    let is_any = told.input || told.output || basis == Basis::Estimated || !guardrail.is_empty();
    is_any.then_some(Usage { tokens, guardrail, basis, tier: found.tier })
}

/// Bytes of text that are taken for a token while a stream runs: English has about four.
///
/// The strict bound, a byte a token, would end a stream at a quarter of what it may have.
const BYTES_A_TOKEN: u64 = 4;

/// What a stream used by now: what it told, and of what it delivered since at least a token an event, within what was asked for.
pub(super) fn so_far(found: &Found, asked: Option<&Asked>) -> Tokens {
    if found.uses_nothing {
        return Tokens::default();
    }
    let (own, bedrock) = (found.steps.as_ref().unwrap_or(&found.own), &found.bedrock);
    let mut tokens = own.beside(bedrock);
    if !Known::of(own, bedrock).input {
        tokens.input = asked.map_or(0, Asked::input_tokens);
    }
    tokens.output = output(found, tokens.output, asked, Ended::Cut);
    tokens
}

/// Whether a stream has told all that it used: what it delivers is over then.
pub(super) fn is_over(found: &Found) -> bool {
    found.output == Output::Final && found.deltas == 0 && found.steps.is_none()
}

/// What is known of input and output, from whomever.
struct Known {
    input: bool,
    output: bool,
}

impl Known {
    fn of(own: &Told, bedrock: &Told) -> Self {
        Self { input: own.input.or(bedrock.input).is_some(), output: own.output.or(bedrock.output).is_some() }
    }
}

/// Whether there is something to estimate: a part of the usage was told, text was delivered, vectors were, or the answer to a model's call broke off.
fn is_estimable(found: &Found, told: &Known, asked: Option<&Asked>, ended: Ended, streamed: bool) -> bool {
    let delivered = found.delivered > 0 || found.text_since() > 0;
    if told.input || told.output {
        return true;
    }
    match asked {
        // A stream that begins with an exception has used nothing.
        Some(_) if streamed => delivered || !found.failed,
        Some(_) => delivered || found.embedding || ended == Ended::Early,
        // An agent without a trace: what it said is known, and what its models read is not.
        None => streamed && delivered,
    }
}

/// What is known to be used where no answer came: the input.
pub(super) fn unanswered(asked: &Asked) -> Usage {
    let tokens = Tokens { input: asked.input_tokens(), ..Tokens::default() };
    Usage { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Estimated, tier: None }
}

/// `told` and the text since, within what was asked for.
fn output(found: &Found, told: u64, asked: Option<&Asked>, ended: Ended) -> u64 {
    let most = asked.and_then(|asked| asked.max_tokens).unwrap_or(u64::MAX);
    let least = told.saturating_add(found.deltas);
    let since = match ended {
        Ended::Cut => found.text_since() / BYTES_A_TOKEN,
        Ended::Whole | Ended::Early => found.text_since(),
    };
    told.saturating_add(since).min(most).max(least)
}
