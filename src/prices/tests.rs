//! What usage costs, to the last picodollar; and that every price that is shipped is one that counts.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::prices::PerToken;
use crate::domain::Basis;

fn usage(tokens: Tokens) -> Usage {
    Usage { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Reported, tier: None }
}

/// A million tokens of input and of output.
fn a_million() -> Usage {
    usage(Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() })
}

fn prices(own: &str) -> Prices {
    Prices::of(Some(Table::parse(own, Path::new("prices.yaml")).unwrap()), None)
}

fn shipped() -> Prices {
    Prices::build(&Config::default()).unwrap()
}

/// In dollars, as text; none where it is unpriced.
fn dollars(cost: Cost) -> Option<String> {
    match cost {
        Cost::Nothing => Some("nothing".to_owned()),
        Cost::Priced(usd) => Some(usd.to_string()),
        Cost::Unpriced => None,
    }
}

#[test]
fn what_used_nothing_costs_nothing_whatever_the_model() {
    let prices = prices("models: []");
    assert_eq!(prices.cost(None, "us-east-1", &usage(Tokens::default())), Cost::Nothing);
    // Reasoning is a part of the output, and nothing of its own.
    assert_eq!(prices.cost(Some("a"), "us-east-1", &usage(Tokens { reasoning: 7, ..Tokens::default() })), Cost::Nothing);
}

#[test]
fn tokens_without_a_price_are_unpriced_and_never_free() {
    let prices =
        prices("models: [{ model: a, input: 0, output: 1 }, { model: b, unpriced: true }, { model: '*', regions: [eu-*], input: 1 }]");
    let cost = |model, region, tokens| dollars(prices.cost(model, region, &usage(tokens)));
    let input = Tokens { input: 5, ..Tokens::default() };
    assert_eq!(cost(Some("a"), "us-east-1", input).as_deref(), Some("0"), "a price of zero is a price");
    assert_eq!(cost(Some("a"), "us-east-1", Tokens { cache_read: 1, ..input }), None, "a kind that the entry does not name");
    assert_eq!(cost(Some("b"), "eu-west-1", input), None, "said to have none");
    assert_eq!(cost(Some("c"), "us-east-1", input), None, "in no entry");
    assert_eq!(cost(None, "us-east-1", input), None, "no model is known");
    assert_eq!(cost(Some("c"), "eu-west-1", input).as_deref(), Some("0.000005"));
    assert_eq!(cost(Some("c"), "eu-west-1", Tokens { output: 1, ..input }), None);
}

#[test]
fn the_first_entry_for_model_region_and_tier_counts() {
    let prices = prices(
        "models:\n\
         - { model: 'm*', regions: [us-*], tiers: [flex], input: 1 }\n\
         - { model: 'm*', regions: [us-*], input: 2 }\n\
         - { model: 'm1', input: 3 }\n\
         - { model: 'm*', tiers: [default], input: 4 }\n",
    );
    let input = usage(Tokens { input: 1_000_000, ..Tokens::default() });
    let cost = |model, region, tier| dollars(prices.cost(Some(model), region, &Usage { tier, ..input }));
    for _ in 0..2 {
        assert_eq!(cost("m1", "us-east-1", Some(Tier::Flex)).as_deref(), Some("1"));
        assert_eq!(cost("m1", "us-east-1", Some(Tier::Priority)).as_deref(), Some("2"), "an entry without tiers is for all");
        assert_eq!(cost("m1", "eu-west-1", Some(Tier::Reserved)).as_deref(), Some("3"));
        assert_eq!(cost("m2", "eu-west-1", None).as_deref(), Some("4"), "a tier that is not told is the default one");
        assert_eq!(cost("m2", "eu-west-1", Some(Tier::Flex)), None);
    }
}

#[test]
fn a_long_input_is_priced_by_the_next_entry() {
    let prices = prices(
        "models: [{ model: m, up_to_input: 10, input: 1, output: 1, cache_read: 1 }, { model: m, input: 2, output: 3, cache_read: 4 }]",
    );
    let cost =
        |input, cache_read| dollars(prices.cost(Some("m"), "r", &usage(Tokens { input, output: 1000, cache_read, ..Tokens::default() })));
    assert_eq!(cost(4, 6).as_deref(), Some("0.00101"), "output does not count");
    assert_eq!(cost(5, 6).as_deref(), Some("0.003034"), "what came from a cache does");
}

#[test]
fn units_of_guardrails_need_a_price_and_no_model() {
    let units = |topic, content_image| Usage {
        guardrail: GuardrailUnits { topic, content_image, ..GuardrailUnits::default() },
        ..usage(Tokens::default())
    };
    let prices = prices("guardrail: { topic: 0.15 }");
    assert_eq!(dollars(prices.cost(None, "us-east-1", &units(3, 0))).as_deref(), Some("0.00045"));
    assert_eq!(prices.cost(None, "us-east-1", &units(3, 1)), Cost::Unpriced);
    let all = GuardrailUnits {
        topic: 1,
        content: 10,
        content_image: 100,
        sensitive_information: 1000,
        contextual_grounding: 10_000,
        automated_reasoning: 100_000,
    };
    let all = Usage { guardrail: all, ..usage(Tokens::default()) };
    // 0.00015 + 0.0015 + 0.075 + 0.1 + 1 + 17, of AWS's list.
    assert_eq!(dollars(shipped().cost(None, "us-east-1", &all)).as_deref(), Some("18.17665"));
}

#[test]
fn tokens_and_units_are_added_and_either_unpriced_makes_the_whole_unpriced() {
    let prices = prices("{ models: [{ model: m, input: 1 }], guardrail: { topic: 1 } }");
    let both = |content| Usage {
        guardrail: GuardrailUnits { topic: 1, content, ..GuardrailUnits::default() },
        ..usage(Tokens { input: 1, ..Tokens::default() })
    };
    assert_eq!(dollars(prices.cost(Some("m"), "r", &both(0))).as_deref(), Some("0.001001"));
    assert_eq!(prices.cost(Some("m"), "r", &both(1)), Cost::Unpriced);
    assert_eq!(prices.cost(Some("x"), "r", &both(0)), Cost::Unpriced);
}

#[test]
fn a_sum_beyond_all_money_stops_at_the_end() {
    let prices = prices("models: [{ model: m, input: 18446744073709.551615, output: 1, cache_read: 0.000001 }]");
    let cost = |tokens| prices.cost(Some("m"), "r", &usage(tokens));
    let end = Cost::Priced(Usd::from_picos(u64::MAX));
    assert_eq!(cost(Tokens { input: 1, ..Tokens::default() }), end);
    assert_eq!(cost(Tokens { input: 2, output: 1, ..Tokens::default() }), end);
    assert_eq!(cost(Tokens { cache_read: u64::MAX, ..Tokens::default() }), end);
    assert_eq!(cost(Tokens { cache_read: u64::MAX, output: u64::MAX, ..Tokens::default() }), end);
    assert_eq!(cost(Tokens { cache_read: u64::MAX - 1, ..Tokens::default() }), Cost::Priced(Usd::from_picos(u64::MAX - 1)));
}

/// A price as somebody may write it, and the same in millionths of a dollar.
fn price() -> impl Strategy<Value = (String, u128)> {
    (0_u32..100_000, 0_u32..1_000_000, 0_usize..=6, 0_usize..=3).prop_map(|(whole, fraction, decimals, zeros)| {
        let digits: String = format!("{fraction:06}").chars().take(decimals).collect();
        let dot = if decimals + zeros > 0 { "." } else { "" };
        let text = format!("{whole}{dot}{digits}{}", "0".repeat(zeros));
        let micros = format!("{whole}{digits:0<6}").parse().unwrap();
        (text, micros)
    })
}

proptest! {
    #[test]
    fn a_cost_is_the_sum_of_the_products_exactly(prices in proptest::array::uniform5(price()), counts in proptest::array::uniform5(0_u64..10_000_000)) {
        let named: Vec<String> = TokenKind::ALL.iter().zip(&prices).map(|(kind, (text, _))| format!("{}: {text}", kind.label())).collect();
        let table = super::tests::prices(&format!("models: [{{ model: m, {} }}]", named.join(", ")));
        let [input, output, cache_read, cache_write_5m, cache_write_1h] = counts;
        let tokens = Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning: 0 };
        // Micro-dollars by the million tokens are picodollars by the token.
        let expected: u128 = prices.iter().zip(counts).map(|((_, micros), count)| micros * u128::from(count)).sum();
        let expected = Usd::from_picos(u64::try_from(expected).unwrap_or(u64::MAX));
        let cost = table.cost(Some("m"), "r", &usage(tokens));
        prop_assert_eq!(cost, if tokens.total() == 0 { Cost::Nothing } else { Cost::Priced(expected) });
    }
}

#[test]
fn own_prices_are_asked_before_those_that_are_shipped_or_alone() {
    let directory = std::env::temp_dir().join(format!("tollgate-prices-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("own.yaml");
    let build = |text: &str| {
        fs::write(&file, text).unwrap();
        Prices::build(&Config { file: Some(file.clone()) })
    };
    let own = "models: [{ model: '*nova-lite*', input: 7, output: 0 }]\nguardrail: { topic: 1 }\n";
    let cost = |prices: &Prices, model| dollars(prices.cost(Some(model), "us-east-1", &a_million()));

    let both = build(own).unwrap();
    assert_eq!(cost(&both, "amazon.nova-lite-v1:0").as_deref(), Some("7"));
    assert_eq!(cost(&both, "amazon.nova-pro-v1:0").as_deref(), Some("4"));
    assert_eq!(both.guardrail().topic, Some(Usd::from_picos(Usd::PICOS / 1000)));
    assert_eq!(both.guardrail().content, shipped().guardrail().content);
    assert_eq!(both.table().next().map(|line| line.origin), Some(Origin::Own));

    let alone = build(&format!("shipped: false\n{own}")).unwrap();
    assert_eq!(cost(&alone, "amazon.nova-lite-v1:0").as_deref(), Some("7"));
    assert_eq!(cost(&alone, "amazon.nova-pro-v1:0"), None);
    assert_eq!((alone.table().count(), alone.guardrail().content), (1, None));

    let wrong = build("models: [{ modle: a, input: 1 }]").unwrap_err().to_string();
    assert!(wrong.contains("own.yaml:1:12: models[0].modle: unknown key") && wrong.contains("did you mean `model`?"), "{wrong}");
    fs::remove_dir_all(&directory).unwrap();
    assert!(Prices::build(&Config { file: Some(file.clone()) }).unwrap_err().to_string().contains("can't be read"));
}

#[test]
fn a_model_is_logged_once_and_names_that_a_caller_makes_up_are_bounded() {
    let prices = prices("models: []");
    let used = usage(Tokens { input: 1, ..Tokens::default() });
    for _ in 0..3 {
        assert_eq!(prices.cost(Some("one"), "us-east-1", &used), Cost::Unpriced);
        assert_eq!(prices.cost(Some("one"), "eu-west-1", &used), Cost::Unpriced);
    }
    assert_eq!(prices.untold.logged(), 1);
    for n in 0..20_000 {
        let name = format!("{n}{}", "x".repeat(n % 700));
        assert_eq!(prices.cost(Some(&name), "us-east-1", &used), Cost::Unpriced);
    }
    assert_eq!(prices.untold.logged(), 1024);
    assert!(prices.resolved.remembered() <= 4096);
}

#[test]
fn a_model_seen_before_is_answered_from_memory_and_told_apart_by_region_and_tier() {
    let prices = shipped();
    let nova = "amazon.nova-pro-v1:0";
    let cost = |region, tier| dollars(prices.cost(Some(nova), region, &Usage { tier, ..a_million() }));
    for _ in 0..2 {
        assert_eq!(cost("us-east-1", None).as_deref(), Some("4"));
        assert_eq!(cost("us-east-1", Some(Tier::Flex)).as_deref(), Some("2"));
        assert_eq!(cost("us-gov-west-1", None).as_deref(), Some("4.8"));
        assert_eq!(cost("eu-west-1", None), None);
    }
    assert_eq!(prices.resolved.remembered(), 4);
}

/// By AWS's lists: model, region, dollars for a million tokens of input and a million of output.
const KNOWN: [(&str, &str, &str, &str); 44] = [
    ("anthropic.claude-3-haiku-20240307-v1:0", "us-east-1", "0.25", "1.25"),
    ("anthropic.claude-3-sonnet-20240229-v1:0", "eu-west-3", "3", "15"),
    ("anthropic.claude-3-opus-20240229-v1:0", "us-west-2", "15", "75"),
    ("anthropic.claude-3-5-sonnet-20240620-v1:0", "eu-central-1", "3", "15"),
    ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "us-east-1", "3", "15"),
    ("us.anthropic.claude-3-5-haiku-20241022-v1:0", "us-east-1", "0.8", "4"),
    ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "us-east-1", "3", "15"),
    ("us.anthropic.claude-opus-4-20250514-v1:0", "us-east-1", "15", "75"),
    ("us.anthropic.claude-opus-4-1-20250805-v1:0", "us-east-1", "15", "75"),
    ("global.anthropic.claude-opus-4-5-20251101-v1:0", "eu-west-1", "5", "25"),
    ("us.anthropic.claude-opus-4-5-20251101-v1:0", "us-east-1", "5.5", "27.5"),
    ("eu.anthropic.claude-opus-4-6-v1", "eu-west-1", "5.5", "27.5"),
    ("global.anthropic.claude-opus-4-7", "us-east-1", "5", "25"),
    ("global.anthropic.claude-opus-5", "us-east-1", "5", "25"),
    ("global.anthropic.claude-opus-5-5", "us-east-1", "4", "20"),
    ("us.anthropic.claude-sonnet-5", "us-east-1", "2.2", "11"),
    ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "ap-northeast-1", "1", "5"),
    ("jp.anthropic.claude-haiku-4-5-20251001-v1:0", "ap-northeast-1", "1.1", "5.5"),
    ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0", "us-east-1", "1.1", "5.5"),
    ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.anthropic.claude-sonnet-4-6", "us-east-1", "3", "15"),
    ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0", "us-east-1", "0.25", "1.25"),
    ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0", "us-gov-west-1", "1.2", "6"),
    ("amazon.nova-micro-v1:0", "us-east-1", "0.035", "0.14"),
    ("amazon.nova-lite-v1:0", "us-east-1", "0.06", "0.24"),
    ("us.amazon.nova-pro-v1:0", "us-west-2", "0.8", "3.2"),
    ("eu.amazon.nova-pro-v1:0", "eu-west-1", "1.05", "4.2"),
    ("us.amazon.nova-premier-v1:0", "us-east-1", "2.5", "12.5"),
    ("global.amazon.nova-2-lite-v1:0", "eu-west-1", "0.3", "2.5"),
    ("amazon.titan-text-express-v1", "us-east-1", "0.2", "0.6"),
    ("ai21.jamba-1-5-large-v1:0", "us-east-1", "2", "8"),
    ("cohere.command-text-v14", "us-east-1", "1", "2"),
    ("us.deepseek.r1-v1:0", "us-east-1", "1.35", "5.4"),
    ("deepseek.v3-v1:0", "us-west-2", "0.58", "1.68"),
    ("meta.llama3-8b-instruct-v1:0", "us-east-1", "0.3", "0.6"),
    ("meta.llama3-70b-instruct-v1:0", "eu-west-2", "3.45", "4.55"),
    ("us.meta.llama3-1-405b-instruct-v1:0", "us-east-2", "2.4", "2.4"),
    ("us.meta.llama3-2-90b-instruct-v1:0", "us-east-1", "0.72", "0.72"),
    ("us.meta.llama3-3-70b-instruct-v1:0", "us-east-1", "0.72", "0.72"),
    ("us.meta.llama4-maverick-17b-instruct-v1:0", "us-east-1", "0.24", "0.97"),
    ("mistral.mistral-7b-instruct-v0:2", "us-east-1", "0.15", "0.2"),
    ("mistral.mistral-large-2402-v1:0", "eu-west-3", "5.2", "15.6"),
    ("openai.gpt-oss-120b-1:0", "us-west-2", "0.15", "0.6"),
    ("qwen.qwen3-32b-v1:0", "us-east-1", "0.15", "0.6"),
    ("us.writer.palmyra-x5-v1:0", "us-west-2", "0.6", "6"),
];

#[test]
fn models_that_are_known_cost_what_aws_lists() {
    let prices = shipped();
    // Calls of 100,000 tokens, ten times: longer ones cost more with some.
    let ten = |tokens| {
        let Cost::Priced(usd) = tokens else { return None };
        Some(usd.times(10).to_string())
    };
    for (model, region, input, output) in KNOWN {
        let cost = |tokens| ten(prices.cost(Some(model), region, &usage(tokens)));
        assert_eq!(cost(Tokens { input: 100_000, ..Tokens::default() }).as_deref(), Some(input), "{model} in {region}");
        assert_eq!(cost(Tokens { output: 100_000, ..Tokens::default() }).as_deref(), Some(output), "{model} in {region}");
    }
    for embedding in ["amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"] {
        assert!(ten(prices.cost(Some(embedding), "us-east-1", &usage(Tokens { input: 1, ..Tokens::default() }))).is_some(), "{embedding}");
    }
}

#[test]
fn caches_and_long_calls_of_claude_cost_what_aws_lists() {
    let prices = shipped();
    let cost = |tokens| dollars(prices.cost(Some("global.anthropic.claude-sonnet-4-5-20250929-v1:0"), "us-east-1", &usage(tokens)));
    let cached = Tokens { cache_read: 100_000, cache_write_5m: 10_000, cache_write_1h: 1000, ..Tokens::default() };
    assert_eq!(cost(cached).as_deref(), Some("0.0735"), "0.03 + 0.0375 + 0.006");
    assert_eq!(cost(Tokens { input: 200_000, output: 1000, ..Tokens::default() }).as_deref(), Some("0.615"));
    assert_eq!(cost(Tokens { input: 200_001, output: 1000, ..Tokens::default() }).as_deref(), Some("1.222506"));
    let nova = usage(Tokens { cache_write_5m: 1000, ..Tokens::default() });
    assert_eq!(dollars(prices.cost(Some("us.amazon.nova-pro-v1:0"), "us-east-1", &nova)).as_deref(), Some("0"), "AWS takes nothing for it");
}

#[test]
fn what_the_list_does_not_hold_is_unpriced() {
    let prices = shipped();
    for (model, region, tier) in [
        ("anthropic.claude-unheard-of-v1:0", "us-east-1", None),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us-east-1", Some(Tier::Flex)),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us-east-1", Some(Tier::Reserved)),
        ("anthropic.claude-3-haiku-20240307-v1:0", "us-gov-west-1", None),
        ("anthropic.claude-opus-5-6", "us-east-1", None),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6", "us-east-1", None),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/a1b2c3d4e5f6", "us-east-1", None),
    ] {
        assert_eq!(prices.cost(Some(model), region, &Usage { tier, ..a_million() }), Cost::Unpriced, "{model}");
    }
}

#[test]
fn every_shipped_price_has_a_date_and_a_source_and_can_be_reached() {
    let prices = shipped();
    assert!(prices.table().count() > 200);
    assert!(prices.guardrail().date.is_some() && prices.guardrail().source.is_some());
    for line in prices.table() {
        let entry = &line.entry;
        if entry.prices != PerToken::default() {
            let source = entry.source.as_deref().unwrap_or_default();
            assert!(entry.date.is_some() && source.starts_with("https://"), "{entry:?}");
        }
        let glob = entry.model.to_string();
        let names = ["", "-20250101-v1:0", "x"].map(|run| glob.replacen('*', "", 1).replace('*', run.trim_start_matches('-')));
        let region = entry.regions.as_ref().map_or("ap-east-9".to_owned(), |regions| regions[0].to_string().replace('*', "west-1"));
        let tier = entry.tiers.as_ref().map_or(Tier::Default, |tiers| tiers[0]);
        let reached = names.iter().any(|name| prices.entries(name, &region, tier).iter().any(|found| **found == *line));
        assert!(reached, "an earlier entry takes all that this one is for: {entry:?}");
    }
}
