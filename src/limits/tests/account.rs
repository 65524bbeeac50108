//! An account's quota, against a book of Bedrock's own: what is admitted is never throttled, and hardly anything of the quota is left unused.
//!
//! The two books hear of everything at different times. A call is taken here first, and reaches Bedrock later; it ends there first, and here later; and of a
//! stream only the events tell what it has come to by then. So a call may come to more than was held for it without anyone knowing here: that is what an account's
//! quota holds beforehand of an answer in one piece, adds event by event of a stream, and leaves as headroom for what is on the wire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::config::limits::{Account, Measure};

const NANOS: u64 = 1_000_000_000;
const MINUTES: u64 = 6;
const SONNET: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

/// Bedrock's book, by code of its own: what is left of a quota that comes back all the time, in tokens times the nanoseconds of a minute.
struct Bedrock {
    a_minute: i128,
    left: i128,
    at: u64,
}

impl Bedrock {
    const MINUTE: i128 = 60_000_000_000;

    fn new(a_minute: u64) -> Self {
        Self { a_minute: a_minute.into(), left: i128::from(a_minute) * Self::MINUTE, at: 0 }
    }

    fn change(&mut self, at: u64, back: u64, taken: u64) {
        self.left = (self.left + i128::from(at - self.at) * self.a_minute).min(self.a_minute * Self::MINUTE);
        self.at = at;
        self.left = (self.left + (i128::from(back) - i128::from(taken)) * Self::MINUTE).min(self.a_minute * Self::MINUTE);
    }

    /// Whether it takes a call.
    fn takes(&mut self, at: u64, amount: u64) -> bool {
        self.change(at, 0, 0);
        let fits = self.left >= i128::from(amount) * Self::MINUTE;
        if fits {
            self.change(at, 0, amount);
        }
        fits
    }
}

/// One call, and how long everything takes, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Made {
    input: u64,
    most: u64,
    output: u64,
    streamed: bool,
    /// What the input is taken for here.
    estimate: u64,
    /// Until Bedrock has it.
    there: u64,
    /// Until what Bedrock says is here.
    back: u64,
    /// Tokens a second.
    speed: u64,
}

/// A quota, and clients without end.
#[derive(Clone, Copy, Debug)]
struct Setting {
    a_minute: u64,
    clients: u64,
    /// The longest way between the books, in milliseconds.
    lag: u64,
    /// Percent.
    headroom: u64,
    seed: u64,
}

struct Dice(u64);

impl Dice {
    fn within(&mut self, from: u64, to: u64) -> u64 {
        // An LCG's high bits (Knuth's MMIX) are random enough for arrivals.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from + 1)
    }

    fn call(&mut self, lag: u64) -> Made {
        let (input, most) = (self.within(20, 3_000), self.within(30, 2_500));
        Made {
            input,
            most,
            // Some say all that they may.
            output: if self.within(0, 4) == 0 { most } else { self.within(most / 8, most) },
            streamed: self.within(0, 1) == 0,
            estimate: input + input * self.within(0, 30) / 100,
            there: self.within(0, lag * 1_000_000),
            back: self.within(0, lag * 1_000_000),
            speed: self.within(40, 200),
        }
    }
}

/// What happens: in the order of time, and of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client asks here for call `n`.
    Asks,
    /// It is at Bedrock.
    Arrives,
    /// So many tenths of a stream's output are here.
    Tells(u64),
    /// It is over at Bedrock.
    Ends,
    /// It is over here.
    Settles,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    throttled: u64,
    admitted: u64,
    /// Of what came back in the time that was looked at, in tenths of a percent.
    use_of_1000: u64,
}

fn account_rule(a_minute: u64, headroom: u64) -> Rule {
    let amount = a_minute * 10 * (100 - headroom);
    Rule {
        per: vec![Dimension::Model],
        measure: Measure::Bedrock { burndown: Vec::new() },
        account: Some(Account::default()),
        ..Rule::new("upstream use1 tokens", Count::Tokens, Bound::Rate { amount, period: MINUTE, burst: amount })
    }
}

/// `as_bedrock`: whether calls hold what Bedrock reserves, as a rule of the operator's has them do.
fn run(setting: Setting, as_bedrock: bool) -> Outcome {
    let Setting { a_minute, clients, lag, headroom, seed } = setting;
    let begin = start();
    let rule = account_rule(a_minute, headroom);
    let rule = if as_bedrock { Rule { account: None, ..rule } } else { rule };
    let limits = Limits::build(&[rule], buckets(begin), Arc::default(), Arc::new(Nobody));
    let principal = caller("acme", None);
    let price: &(dyn Fn(&Tokens) -> Cost + Sync) = &|_| Cost::Nothing;
    let (mut dice, mut bedrock) = (Dice(seed), Bedrock::new(a_minute));
    let (mut calls, mut open) = (Vec::new(), Vec::<Option<Admission>>::new());
    let mut events = BinaryHeap::new();
    for _ in 0..clients {
        events.push(Reverse((dice.within(0, NANOS), Event::Asks, calls.len())));
        calls.push(dice.call(lag));
        open.push(None);
    }
    let (from, to) = (2 * 60 * NANOS, MINUTES * 60 * NANOS);
    let mut outcome = Outcome { throttled: 0, admitted: 0, use_of_1000: 0 };
    let mut used = 0;
    while let Some(Reverse((at, event, n))) = events.pop() {
        if at > to {
            break;
        }
        let call: Made = calls[n];
        let clock = now(begin + Duration::from_nanos(at));
        let (reserved, spent) = (call.input + call.most, call.input + 5 * call.output);
        match event {
            Event::Asks => {
                let asked =
                    Asked { text_bytes: call.estimate * 3, max_tokens: Some(call.most), streamed: call.streamed, ..Asked::default() };
                let asks =
                    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some(SONNET.into()), asked };
                let ask = Ask { principal: &principal, call: &asks, route: "everything", address: None, price };
                match limits.admit(&ask, clock) {
                    Ok(mut admission) => {
                        admission.sent();
                        outcome.admitted += 1;
                        open[n] = Some(admission);
                        events.push(Reverse((at + call.there, Event::Arrives, n)));
                    }
                    Err(refused) => {
                        let again = u64::try_from(refused.rejection.retry_after.expect("a time").as_nanos()).unwrap();
                        events.push(Reverse((at + again.max(NANOS / 5), Event::Asks, n)));
                    }
                }
            }
            Event::Arrives => {
                if !bedrock.takes(at, reserved) {
                    outcome.throttled += 1;
                    open[n] = None;
                    continue;
                }
                let takes = call.output * NANOS / call.speed;
                events.push(Reverse((at + takes, Event::Ends, n)));
                if call.streamed {
                    // Twenty events a second, or a hundred in all.
                    let tells = (takes / 50_000_000).clamp(1, 100);
                    for tell in 1..tells {
                        let when = at + takes * tell / tells + call.back;
                        events.push(Reverse((when, Event::Tells(call.output * tell / tells), n)));
                    }
                }
            }
            Event::Tells(output) => {
                let tokens = Tokens { input: call.estimate, output, ..Tokens::default() };
                if let Some(admission) = &mut open[n] {
                    admission.grow(&tokens, || Cost::Nothing, clock).unwrap();
                }
            }
            Event::Ends => {
                bedrock.change(at, reserved, spent);
                used += if at > from { spent } else { 0 };
                events.push(Reverse((at + call.back, Event::Settles, n)));
            }
            Event::Settles => {
                let tokens = Tokens { input: call.input, output: call.output, ..Tokens::default() };
                open[n].take().expect("under way").settle(Some((&tokens, Cost::Nothing)), clock);
                events.push(Reverse((at, Event::Asks, calls.len())));
                calls.push(dice.call(lag));
                open.push(None);
            }
        }
    }
    outcome.use_of_1000 = used * 1_000 / (a_minute * (MINUTES - 2));
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_is_admitted_is_never_throttled_and_more_than_95_percent_is_used(
        a_minute in 200_000_u64..700_000, clients in 50_u64..90, lag in 0_u64..150, seed: u64,
    ) {
        let outcome = run(Setting { a_minute, clients, lag, headroom: 2, seed }, false);
        prop_assert_eq!(outcome.throttled, 0, "{:?}", outcome);
        prop_assert!(outcome.use_of_1000 > 950, "{:?}", outcome);
        // What was admitted before the time that is looked at may end in it: a minute's worth at most.
        prop_assert!(outcome.use_of_1000 <= 1_000 + 1_000 / (MINUTES - 2), "{:?}", outcome);
    }
}

#[test]
fn to_hold_just_what_bedrock_reserves_is_to_be_throttled() {
    let setting = |seed| Setting { a_minute: 400_000, clients: 100, lag: 150, headroom: 0, seed };
    let throttled: u64 = (0..3).map(|seed| run(setting(seed), true).throttled).sum();
    assert!(throttled > 0, "the judge throttles nobody, and so proves nothing");
}

#[test]
fn calls_that_are_delayed_on_their_way_by_less_than_the_headroom_pass_no_quota_of_requests() {
    let begin = start();
    let bound = Bound::Rate { amount: 588, period: MINUTE, burst: 588 };
    let rule = Rule {
        per: vec![Dimension::Model],
        account: Some(Account::default()),
        ..Rule::new("upstream use1 requests", Count::Requests, bound)
    };
    let room = Room::build(&[rule], buckets(begin));
    let (who, mut dice, mut arrivals) = (caller("acme", None), Dice(7), Vec::new());
    for millis in 0..600_000_u64 {
        if room.admit(&who, begin + Duration::from_millis(millis)).is_ok() {
            arrivals.push((millis + dice.within(0, 1_000)) * 1_000_000);
        }
    }
    arrivals.sort_unstable();
    let mut bedrock = Bedrock::new(600);
    let throttled = arrivals.iter().filter(|at| !bedrock.takes(**at, 1)).count();
    assert_eq!(throttled, 0);
    assert!(arrivals.len() > 600 * 11 * 95 / 100, "{}", arrivals.len());
}

#[test]
fn a_refusal_says_whose_quota_it_is_and_when_the_same_call_passes() {
    let begin = start();
    let limits = Limits::build(&[account_rule(100_000, 2)], buckets(begin), Arc::default(), Arc::new(Nobody));
    let principal = caller("acme", None);
    let asked = Asked { text_bytes: 3, max_tokens: Some(10_000), streamed: false, ..Asked::default() };
    let call = Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some(SONNET.into()), asked };
    let ask = Ask { principal: &principal, call: &call, route: "everything", address: None, price: &|_| Cost::Nothing };
    let admission = limits.admit(&ask, now(begin)).unwrap();
    admission.settle(Some((&Tokens { output: 9_800, ..Tokens::default() }, Cost::Nothing)), now(begin));
    let refused = limits.admit(&ask, now(begin)).unwrap_err();
    assert_eq!(refused.rejection.reason, Reason::RateLimited);
    assert!(
        refused.rejection.message.starts_with("the account's quota at Bedrock is used up (`upstream use1 tokens`: 98000 tokens a minute")
    );
    let wait = refused.rejection.retry_after.unwrap();
    assert!(limits.admit(&ask, now(begin + just_under(wait))).is_err());
    assert!(limits.admit(&ask, now(begin + wait)).is_ok());
}

#[test]
fn what_bedrock_would_reserve_for_one_call_alone_is_admitted_though_it_may_come_to_more() {
    let begin = start();
    let limits = Limits::build(&[account_rule(100_000, 0)], buckets(begin), Arc::default(), Arc::new(Nobody));
    let principal = caller("acme", None);
    let mut call = Call {
        service: Service::BEDROCK_RUNTIME,
        path: "/".into(),
        query: "".into(),
        model: Some(SONNET.into()),
        asked: Asked { text_bytes: 3, max_tokens: Some(90_000), streamed: true, ..Asked::default() },
    };
    let mut admit = |most: u64, streamed| {
        call.asked.max_tokens = Some(most);
        call.asked.streamed = streamed;
        let ask = Ask { principal: &principal, call: &call, route: "everything", address: None, price: &|_| Cost::Nothing };
        limits.admit(&ask, now(begin)).map(drop).map_err(|refused| refused.rejection.reason)
    };
    assert_eq!(admit(24_000, false), Ok(()), "Bedrock reserves 24,001, and it may come to all there is");
    assert_eq!(admit(99_999, true), Ok(()));
    assert_eq!(admit(100_000, true), Err(Reason::AsksTooMuch), "Bedrock never takes it");
}
