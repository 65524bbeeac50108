//! What a call comes to, in a rule's units of account: beforehand and afterwards.

use super::bedrock::{self, spelled};
use crate::config::limits::{Account, Count, Measure, Rule, Weights};
use crate::domain::{Asked, Cost, Tokens, model_name};

/// What a call comes to before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) amount: u64,
    /// Less will do, down to so much.
    pub(super) least: u64,
    /// Where a bucket holds less than all that, this much must fit into it: the rest is held as far as there is room for it at all.
    pub(super) floor: u64,
}

impl Reservation {
    const fn of(amount: u64, least: u64) -> Self {
        Self { amount, least, floor: amount }
    }
}

/// How a rule counts.
#[derive(Debug)]
pub(super) struct Counting {
    count: Count,
    measure: Measure,
    reserve: u64,
    cut: bool,
    /// Of an account's quota at Bedrock.
    account: Option<Account>,
}

impl Counting {
    pub(super) fn of(rule: &Rule) -> Self {
        let measure = match &rule.measure {
            Measure::Bedrock { burndown } => {
                Measure::Bedrock { burndown: burndown.iter().map(|(models, times)| (spelled(models), *times)).collect() }
            }
            Measure::Weights(weights) => Measure::Weights(*weights),
        };
        let account = rule
            .account
            .as_ref()
            .map(|account| Account { model: account.model.as_deref().map(|model| model_name(model).into_owned()), ..account.clone() });
        Self { count: rule.count, measure, reserve: rule.reserve, cut: rule.cut, account }
    }

    /// Whether what a call uses depends on its model.
    pub(super) const fn is_by_model(&self) -> bool {
        matches!(self.measure, Measure::Bedrock { .. })
    }

    /// Whether it is an account's quota at Bedrock that is counted.
    pub(super) const fn is_accounts(&self) -> bool {
        self.account.is_some()
    }

    /// Whether what a call comes to shows only when it ends.
    pub(super) const fn holds(&self) -> bool {
        !matches!(self.count, Count::Requests)
    }

    /// What to reserve for a call; none where it uses nothing of what is counted. `model`: in whatever spelling. `price`: what tokens cost, asked only where
    /// money is counted.
    #[inline]
    pub(super) fn reservation(&self, asked: &Asked, model: Option<&str>, price: &dyn Fn(&Tokens) -> Cost) -> Option<Reservation> {
        if matches!(self.count, Count::Requests | Count::Concurrency) {
            return Some(Reservation::of(1, 1));
        }
        // A body that can't be read may still have a model run.
        if asked.of_no_model || asked.is_nothing() && model.is_none() {
            return None;
        }
        if let (Some(account), Measure::Bedrock { burndown }) = (&self.account, &self.measure) {
            let (amount, floor) = bedrock::held(asked, account, burndown, model);
            return Some(Reservation { amount, least: amount, floor });
        }
        let output = asked.max_tokens.unwrap_or(self.reserve);
        let of = |output| {
            let tokens = Tokens { input: asked.input_tokens(), output, ..Tokens::default() };
            let cost = if self.count == Count::Usd { expected(&tokens, price) } else { Cost::Nothing };
            // One unit, where it comes to nothing or nobody can tell: so that nothing passes a limit that is used up.
            self.reserved(&tokens, model, cost).max(1)
        };
        let amount = of(output);
        // A stream that can be ended needs only a beginning.
        let least = if self.cut && asked.streamed { of(output.min(1)) } else { amount };
        Some(Reservation::of(amount, least))
    }

    /// Bedrock reserves the output that is allowed as it is, and counts what comes by its burndown.
    fn reserved(&self, tokens: &Tokens, model: Option<&str>, cost: Cost) -> u64 {
        match (&self.measure, self.count) {
            (Measure::Bedrock { .. }, Count::Tokens) => tokens.total().saturating_mul(Count::Tokens.scale()),
            _ => self.used(tokens, model, cost).unwrap_or(0),
        }
    }

    /// What tokens come to; none where that can't be told: what is held counts then, which for a model without a price is next to nothing.
    pub(super) fn used(&self, tokens: &Tokens, model: Option<&str>, cost: Cost) -> Option<u64> {
        match (self.count, cost) {
            (Count::Requests | Count::Concurrency, _) | (Count::Usd, Cost::Nothing) => Some(0),
            (Count::Usd, Cost::Priced(usd)) => Some(usd.picos()),
            (Count::Usd, Cost::Unpriced) => None,
            (Count::Tokens, _) => Some(match &self.measure {
                Measure::Weights(weights) => weighted(weights, tokens),
                Measure::Bedrock { burndown } => bedrock::used(tokens, bedrock::times(burndown, self.account.as_ref(), model)),
            }),
        }
    }
}

/// What a call may cost. A model that makes vectors has a price of its input alone, and no output.
fn expected(tokens: &Tokens, price: &dyn Fn(&Tokens) -> Cost) -> Cost {
    match price(tokens) {
        Cost::Unpriced => price(&Tokens { output: 0, ..*tokens }),
        cost => cost,
    }
}

fn weighted(weights: &Weights, tokens: &Tokens) -> u64 {
    let written = tokens.cache_write_5m.saturating_add(tokens.cache_write_1h);
    [
        (tokens.input, weights.input),
        (tokens.output, weights.output),
        (tokens.cache_read, weights.cache_read),
        (written, weights.cache_write),
    ]
    .into_iter()
    .fold(0, |sum: u64, (count, weight)| sum.saturating_add(count.saturating_mul(weight.into())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::limits::Bound;
    use crate::domain::{Glob, Usd};

    const FREE: &dyn Fn(&Tokens) -> Cost = &|_| Cost::Nothing;

    fn rule(count: Count, measure: Measure) -> Rule {
        let bound = Bound::Rate { amount: 1, period: Duration::from_mins(1), burst: 1 };
        Rule { measure, reserve: 500, ..Rule::new("r", count, bound) }
    }

    fn tokens(weights: Weights) -> Counting {
        Counting::of(&rule(Count::Tokens, Measure::Weights(weights)))
    }

    fn as_bedrock(burndown: &[(&str, u32)]) -> Counting {
        let burndown = burndown.iter().map(|(models, times)| (Glob::new(*models), *times)).collect();
        Counting::of(&rule(Count::Tokens, Measure::Bedrock { burndown }))
    }

    /// 100 tokens of input.
    fn asked(max_tokens: Option<u64>) -> Asked {
        Asked { text_bytes: 300, max_tokens, ..Asked::default() }
    }

    const USED: Tokens = Tokens { input: 100, output: 20, cache_read: 1_000, cache_write_5m: 7, cache_write_1h: 3, reasoning: 5 };

    /// In whole tokens.
    fn used(counting: &Counting, model: &str) -> u64 {
        counting.used(&USED, Some(&model_name(model)), Cost::Nothing).unwrap() / 1_000
    }

    #[test]
    fn a_request_and_a_call_under_way_are_one() {
        for count in [Count::Requests, Count::Concurrency] {
            let counting = Counting::of(&rule(count, Measure::Weights(Weights::default())));
            for asked in [asked(Some(u64::MAX)), Asked::default()] {
                assert_eq!(counting.reservation(&asked, None, FREE), Some(Reservation::of(1, 1)));
            }
            assert_eq!(counting.used(&USED, None, Cost::Unpriced), Some(0), "it is over");
        }
    }

    #[test]
    fn tokens_count_by_their_weights_reasoning_as_the_output_that_it_is() {
        assert_eq!(used(&tokens(Weights::default()), "m"), 100 + 20 + 1_000 + 10);
        let weights = Weights { input: 500, output: 2_000, cache_read: 100, cache_write: 1_250 };
        assert_eq!(tokens(weights).used(&USED, None, Cost::Unpriced), Some(50_000 + 40_000 + 100_000 + 12_500));
        let none = Weights { input: 0, output: 0, cache_read: 0, cache_write: 0 };
        assert_eq!(tokens(none).used(&USED, None, Cost::Nothing), Some(0));
    }

    #[test]
    fn what_may_come_is_reserved_or_what_the_rule_says_where_the_call_does_not() {
        let counting = tokens(Weights { output: 2_000, ..Weights::default() });
        let amount = |asked| counting.reservation(&asked, Some("m"), FREE).map(|reserved| (reserved.amount, reserved.least));
        assert_eq!(amount(asked(Some(50))), Some((200_000, 200_000)));
        assert_eq!(amount(asked(None)), Some((1_100_000, 1_100_000)));
        assert_eq!(amount(asked(Some(0))), Some((100_000, 100_000)));
        assert_eq!(amount(Asked { media: 1, ..asked(Some(0)) }), Some((1_700_000, 1_700_000)));
    }

    #[test]
    fn nothing_is_reserved_where_no_model_answers_and_where_neither_body_nor_path_asks_for_anything() {
        let counting = tokens(Weights::default());
        let nothing = Asked { streamed: true, ..Asked::default() };
        assert_eq!(counting.reservation(&nothing, None, FREE), None);
        assert_eq!(counting.reservation(&nothing, Some("m"), FREE), Some(Reservation::of(500_000, 500_000)));
        assert!(counting.reservation(&asked(None), None, FREE).is_some());
        let of_no_model = Asked { of_no_model: true, ..Asked::default() };
        assert_eq!(counting.reservation(&of_no_model, Some("m"), FREE), None, "a job is set up, or a thing is read");
    }

    #[test]
    fn a_stream_that_can_be_cut_needs_only_its_beginning() {
        let cut = |count| Counting::of(&Rule { cut: true, ..rule(count, Measure::Weights(Weights::default())) });
        let stream = Asked { streamed: true, ..asked(Some(4_000)) };
        let reserved = |counting: &Counting, asked: &Asked| {
            counting.reservation(asked, Some("m"), &|tokens| Cost::Priced(Usd::from_picos(tokens.input * 3 + tokens.output * 15)))
        };
        assert_eq!(reserved(&cut(Count::Tokens), &stream), Some(Reservation::of(4_100_000, 101_000)));
        assert_eq!(reserved(&cut(Count::Usd), &stream), Some(Reservation::of(60_300, 315)));
        assert_eq!(reserved(&cut(Count::Tokens), &asked(Some(4_000))), Some(Reservation::of(4_100_000, 4_100_000)));
        let silent = Asked { max_tokens: Some(0), ..stream };
        assert_eq!(reserved(&cut(Count::Tokens), &silent), Some(Reservation::of(100_000, 100_000)));
        assert_eq!(reserved(&tokens(Weights::default()), &stream).map(|reserved| reserved.least), Some(4_100_000), "it can't be cut");
    }

    #[test]
    fn bedrock_reserves_output_once_and_counts_it_by_its_burndown() {
        let counting = as_bedrock(&[]);
        for model in ["anthropic.claude-sonnet-4-6", "amazon.nova-lite-v1:0"] {
            let reserved = counting.reservation(&asked(Some(4_000)), Some(model), FREE);
            assert_eq!(reserved, Some(Reservation::of(4_100_000, 4_100_000)), "{model}");
        }
        assert_eq!(used(&counting, "amazon.nova-lite-v1:0"), 100 + 10 + 20);
        assert_eq!(used(&counting, "anthropic.claude-sonnet-4-6"), 100 + 10 + 20 * 5);
        assert_eq!(counting.used(&USED, None, Cost::Nothing), Some(130_000), "a call that names no model");
    }

    #[test]
    fn output_of_claude_since_3_7_counts_five_times_and_so_does_what_comes_after() {
        for (model, times) in [
            ("anthropic.claude-v2:1", 1),
            ("anthropic.claude-instant-v1", 1),
            ("anthropic.claude-3-haiku-20240307-v1:0", 1),
            ("anthropic.claude-3-sonnet-20240229-v1:0", 1),
            ("anthropic.claude-3-opus-20240229-v1:0", 1),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1),
            ("anthropic.claude-3-5-haiku-20241022-v1:0", 1),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", 5),
            ("anthropic.claude-sonnet-4-20250514-v1:0", 5),
            ("anthropic.claude-opus-4-1-20250805-v1:0", 5),
            ("anthropic.claude-haiku-4-5-20251001-v1:0", 5),
            ("anthropic.claude-opus-4-6-v1", 5),
            ("anthropic.claude-sonnet-5", 5),
            ("anthropic.claude-opus-5", 5),
            ("anthropic.claude-verse-1", 5),
            ("amazon.nova-pro-v1:0", 1),
            ("openai.gpt-oss-120b-1:0", 1),
            ("meta.anthropic-4", 1),
        ] {
            assert_eq!(used(&as_bedrock(&[]), model), 110 + 20 * times, "{model}");
        }
    }

    #[test]
    fn every_spelling_ends_at_the_same_burndown() {
        for prefix in ["", "us.", "EU.", "apac.", "jp.", "global.", "us-gov.", "latam.", "xx."] {
            for arn in ["", "arn:aws:bedrock:us-east-1::foundation-model/", "ARN:aws:Bedrock:eu-west-1:123456789012:inference-profile/"] {
                for model in ["anthropic.claude-opus-4-6-v1", "Anthropic.Claude-Opus-4-6-V1"] {
                    let sent = format!("{arn}{prefix}{model}");
                    assert_eq!(used(&as_bedrock(&[]), &sent), 210, "{sent}");
                    assert_eq!(used(&as_bedrock(&[("anthropic.claude-opus-4*", 3)]), &sent), 170, "{sent}");
                }
            }
        }
    }

    #[test]
    fn a_rule_may_say_otherwise_and_its_first_pattern_counts() {
        let profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/AbcDefghijkl";
        let counting = as_bedrock(&[
            ("anthropic.claude-sonnet-5*", 15),
            ("us.Anthropic.claude-opus-*", 2),
            ("anthropic.*", 1),
            ("arn:aws:bedrock:*:application-inference-profile/AbcDefghijkl", 5),
            ("amazon.nova-2*", 0),
        ]);
        for (model, times) in [
            ("anthropic.claude-sonnet-5", 15),
            ("anthropic.claude-opus-4-6-v1", 2),
            ("eu.anthropic.claude-opus-4-6-v1", 2),
            ("anthropic.claude-haiku-4-5-20251001-v1:0", 1),
            (profile, 5),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/other", 1),
            ("amazon.nova-2-lite-v1:0", 0),
        ] {
            assert_eq!(used(&counting, model), 110 + 20 * times, "{model}");
        }
    }

    #[test]
    fn money_without_a_price_reserves_one_unit_and_is_never_told() {
        let counting = Counting::of(&Rule { unpriced: true, ..rule(Count::Usd, Measure::Weights(Weights::default())) });
        for asked in [asked(Some(4_000)), Asked { streamed: true, ..asked(None) }, asked(Some(u64::MAX))] {
            let reserved = counting.reservation(&asked, Some("m"), &|_| Cost::Unpriced);
            assert_eq!(reserved, Some(Reservation::of(1, 1)));
        }
        assert_eq!(counting.used(&USED, Some("m"), Cost::Unpriced), None);
        assert_eq!(counting.used(&USED, Some("m"), Cost::Nothing), Some(0));
        assert_eq!(counting.used(&USED, Some("m"), Cost::Priced(Usd::from_picos(7))), Some(7));
    }

    fn counts() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX / 1_000), any::<u64>(), 0..1_000_000_u64]
    }

    proptest! {
        #[test]
        fn no_figure_overflows_and_more_never_counts_less(
            figures in (counts(), counts(), counts(), counts(), counts(), counts()),
            weights in any::<[u32; 4]>(), times in any::<u32>(), media in any::<u32>(), streamed in any::<bool>(), cut in any::<bool>(),
        ) {
            let (input, output, cache_read, cache_write_5m, cache_write_1h, text_bytes) = figures;
            let [i, o, r, w] = weights;
            let measures = [
                Measure::Weights(Weights { input: i, output: o, cache_read: r, cache_write: w }),
                Measure::Bedrock { burndown: vec![(Glob::new("*"), times)] },
            ];
            let spent = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning: 0 };
            let more = Tokens { output: output.saturating_add(1), input: input.saturating_add(1), ..spent };
            let price = |tokens: &Tokens| Cost::Priced(Usd::from_picos(tokens.total()).times(1_000_000));
            for (measure, count) in measures.into_iter().flat_map(|measure| [(measure.clone(), Count::Tokens), (measure, Count::Usd)]) {
                let counting = Counting::of(&Rule { cut, ..rule(count, measure) });
                let used = |tokens: &Tokens| counting.used(tokens, Some("m"), price(tokens)).unwrap();
                prop_assert!(used(&spent) <= used(&more));
                let asked = Asked { text_bytes, media, max_tokens: Some(output), streamed, of_no_model: false };
                let reserved = counting.reservation(&asked, Some("m"), &price).unwrap();
                prop_assert!(1 <= reserved.least && reserved.least <= reserved.amount);
            }
        }
    }
}
