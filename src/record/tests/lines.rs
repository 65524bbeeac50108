//! The access log's line.

use super::*;

#[test]
fn a_line_is_what_the_contract_says() {
    let id = RequestId::random();
    let principal = principal("acme", Some("ada"));
    assert_eq!(
        line_of(&full(&id, &principal)),
        format!(
            concat!(
                r#"{{"time":"2026-11-22T13:00:44.123Z","request_id":"{}","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
                r#""client":"192.0.2.7","tenant":"acme","user":"ada","key_id":"kid-7","identity":"jwt","#,
                r#""http_version":"1.1","method":"POST","service":"bedrock-runtime","operation":"converse","path":"/model/{{model}}/converse","model":"amazon.nova-lite-v1:0","alias":"nova","#,
                r#""status":502,"reason":"upstream_broken","shadow_policy":"trial,later","limit":"rpm","shadow_limits":"trial,later","complete":true,"client_left":true,"streamed":true,"route":"chat","target":"canary","#,
                r#""upstream":"primary","upstream_request_id":"7e9d2f4a","attempts":2,"bytes_in":1500,"bytes_out":320,"#,
                r#""usage":"reported","input_tokens":1200,"output_tokens":340,"cache_read_tokens":5000,"cache_write_5m_tokens":60,"#,
                r#""cache_write_1h_tokens":7,"reasoning_tokens":90,"guardrail_units":63,"service_tier":"flex","cost_usd":"0.0125","#,
                r#""upstream_us":812000,"first_token_us":812300,"last_token_us":815100,"waited_us":20000,"overhead_us":41,"total_us":815250,"user_agent":"Boto3/1.44.5"}}"#,
                "\n"
            ),
            id
        )
    );
    assert_eq!(
        line_of(&bare(&id)),
        format!(
            concat!(
                r#"{{"time":"2026-11-22T13:00:44.123Z","request_id":"{}","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","http_version":"2","method":"GET","path":"/","complete":false,"#,
                r#""attempts":0,"bytes_in":0,"bytes_out":0,"overhead_us":0,"total_us":0}}"#,
                "\n"
            ),
            id
        )
    );
}

#[test]
fn what_was_not_used_is_not_written() {
    let id = RequestId::random();
    let tokens = Tokens { input: 0, output: 3, ..Tokens::default() };
    let used = Usage { tokens, guardrail: GuardrailUnits::default(), basis: Basis::Estimated, tier: None };
    let line = line_of(&Entry { usage: Some(&used), cost: Cost::Unpriced, ..bare(&id) });
    let expected = r#""bytes_out":0,"usage":"estimated","input_tokens":0,"output_tokens":3,"unpriced":true,"overhead_us":0"#;
    assert!(line.contains(expected), "{line}");
    let guarded = Usage { guardrail: GuardrailUnits { topic: u64::MAX, content: 1, ..used.guardrail }, ..used };
    assert!(line_of(&Entry { usage: Some(&guarded), ..bare(&id) }).contains(&format!("\"guardrail_units\":{}", u64::MAX)));
}

#[test]
fn the_contract_names_every_field_in_order() {
    let id = RequestId::random();
    let principal = principal("acme", Some("ada"));
    // What has a price is not unpriced: no line has every field.
    let fields_of = |cost| {
        let tried = [Tried { cost, ..given_up() }];
        let line = line_of(&Entry { cost, mirror_of: Some(&id), tried: &tried, ..full(&id, &principal) });
        let (before, rest) = line.split_once(r#""tried":[{"#).unwrap();
        let (inner, after) = rest.split_once("}]").unwrap();
        [format!(r#"{before}"tried":[]{after}"#), format!("{{{inner}}}")]
    };
    let reference = include_str!("../../../docs/access-log.md");
    let (of_line, of_tries) = reference.split_once("\n### A try that was given up\n").unwrap();
    for (cost, other) in [(USED_COST, "unpriced"), (Cost::Unpriced, "cost_usd")] {
        for (part, text) in [of_line, of_tries].into_iter().zip(fields_of(cost)) {
            let rows = part.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
            let documented: Vec<_> = rows.map(|(name, _)| name).filter(|name| *name != other).collect();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(parsed.as_object().unwrap().len(), documented.len(), "{documented:?}\n{text}");
            let place = |name: &&str| text.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}"));
            assert!(documented.iter().map(place).is_sorted(), "{documented:?}\n{text}");
        }
    }
}

#[test]
fn the_contracts_example_has_its_fields() {
    let documents = include_str!("../../../docs/access-log.md");
    let example = documents.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let id = RequestId::random();
    let line: Value = serde_json::from_str(&line_of(&full(&id, &principal("acme", Some("ada"))))).unwrap();
    for (name, value) in example.as_object().unwrap() {
        let ours = line.get(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(std::mem::discriminant(value), std::mem::discriminant(ours), "{name}");
    }
}

#[test]
fn what_a_client_sends_is_capped() {
    let id = RequestId::random();
    let long = "\u{1}".repeat(100_000);
    let principal = Principal { key_id: Some(long.as_str().into()), ..principal(&long, Some(&long)) };
    let many = u64::MAX;
    let times = Duration::from_micros(many);
    let used = Usage {
        tokens: Tokens { input: many, output: many, cache_read: many, cache_write_5m: many, cache_write_1h: many, reasoning: many },
        guardrail: GuardrailUnits { topic: many, ..USED.guardrail },
        ..USED
    };
    let cost = Cost::Priced(Usd::from_picos(many));
    let tried = vec![
        Tried {
            target: long.as_str().into(),
            upstream: long.as_str().into(),
            model: Some(format!("{long}2").into()),
            upstream_request_id: Some(long.as_bytes().into()),
            took: times,
            usage: Some(used),
            cost,
            ..given_up()
        };
        40
    ];
    let names: [Arc<str>; 1] = [long.as_str().into()];
    let entry = Entry {
        client: Some(IpAddr::from([0xffff_u16; 8])),
        attempts: u32::MAX,
        usage: Some(&used),
        cost,
        operation: Some(&long),
        shadow_policy: &names,
        shadow_limits: &names,
        limit: Some(&long),
        waited: times,
        total: times,
        overhead: times,
        upstream_time: Some(times),
        first_token: Some(times),
        last_token: Some(times),
        mirror_of: Some(&id),
        alias: Some(&long),
        route: Some(&long),
        target: Some(&long),
        tried: &tried,
        bytes_in: many,
        bytes_out: many,
        method: &long,
        path: long.as_bytes(),
        model: Some(&long),
        upstream: Some(&long),
        upstream_request_id: Some(long.as_bytes()),
        user_agent: Some(long.as_bytes()),
        ..full(&id, &principal)
    };
    let line = line_of(&entry);
    let without_tries = line_of(&Entry { tried: &[], ..entry }).len();
    let of_tries = line.len() - without_tries;
    let [most, most_of_try] = line::MOST_LINE;
    assert!((most - 500..most).contains(&without_tries), "the bound is no guess: {without_tries}");
    assert!((16 * (most_of_try - 150)..16 * most_of_try).contains(&of_tries), "{of_tries}");
    assert!(most + 16 * most_of_try <= 74_000, "what is told of a thread's buffer");
    let parsed: Value = serde_json::from_str(&line).unwrap();
    for (field, most) in [
        ("path", 512),
        ("user_agent", 200),
        ("model", 256),
        ("tenant", 256),
        ("user", 256),
        ("key_id", 256),
        ("operation", 40),
        ("method", 32),
        ("alias", 256),
        ("route", 64),
        ("target", 64),
    ] {
        let text = parsed[field].as_str().unwrap();
        assert_eq!(text.len(), most, "{field}");
        assert!(text.ends_with('…'), "{field}");
    }
    let tried = parsed["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 16);
    for (field, most) in [("upstream", 64), ("target", 64), ("model", 256), ("upstream_request_id", 64)] {
        assert_eq!(tried[15][field].as_str().unwrap().len(), most, "{field}");
    }
}

#[test]
fn tries_that_were_given_up_stand_in_their_line_in_order() {
    let id = RequestId::random();
    let principal = principal("acme", Some("ada"));
    let tried = [
        given_up(),
        Tried {
            target: "second".into(),
            upstream: "euc1".into(),
            model: None,
            outcome: Attempt::Unreachable,
            status: None,
            upstream_request_id: None,
            took: Duration::from_millis(3),
            usage: None,
            cost: Cost::Nothing,
            ..given_up()
        },
    ];
    let line = line_of(&Entry { tried: &tried, attempts: 3, ..full(&id, &principal) });
    let expected = concat!(
        r#""attempts":3,"tried":[{"upstream":"use1","target":"first","model":"eu.amazon.nova-lite-v1:0","outcome":"exception","status":200,"#,
        r#""upstream_request_id":"9c0ffee0","took_us":40000,"usage":"reported","input_tokens":1200,"output_tokens":340,"#,
        r#""cache_read_tokens":5000,"cache_write_5m_tokens":60,"cache_write_1h_tokens":7,"reasoning_tokens":90,"guardrail_units":63,"#,
        r#""service_tier":"flex","cost_usd":"0.0125"},"#,
        r#"{"upstream":"euc1","target":"second","outcome":"unreachable","took_us":3000}],"bytes_in":1500,"#,
    );
    assert!(line.contains(expected), "{line}");
    let same_model = [Tried { model: Some("amazon.nova-lite-v1:0".into()), ..given_up() }];
    let line: Value = serde_json::from_str(&line_of(&Entry { tried: &same_model, ..full(&id, &principal) })).unwrap();
    assert_eq!(line["tried"][0].get("model"), None, "it is that of the line");
}

#[test]
fn a_mirrored_calls_line_says_so_and_names_its_caller() {
    let id = RequestId::random();
    let principal = principal("acme", None);
    let line = line_of(&Entry { mirror_of: Some(&id), ..full(&id, &principal) });
    let of = format!(r#""streamed":true,"mirror":true,"mirror_of":"{id}","route":"chat""#);
    assert!(line.contains(r#""tenant":"acme""#) && line.contains(&of), "{line}");
    assert!(!line_of(&full(&id, &principal)).contains("mirror"));
}

proptest! {
    #[test]
    fn a_line_is_one_json_object_whatever_is_sent(
        path: Vec<u8>, agent: Vec<u8>, upstream_id: Vec<u8>, alias: String, tries in 0_usize..3, tenant: String, user: String, model: String, method: String,
        numbers: (u64, u64, u32, u16), address: IpAddr,
    ) {
        let id = RequestId::random();
        let principal = principal(&tenant, Some(&user));
        let tried = vec![Tried { upstream_request_id: Some(upstream_id.as_slice().into()), model: Some(alias.as_str().into()), ..given_up() }; tries];
        let line = line_of(&Entry {
            path: &path, user_agent: Some(&agent), upstream_request_id: Some(&upstream_id), model: Some(&model), method: &method,
            bytes_in: numbers.0, bytes_out: numbers.1, attempts: numbers.2, status: Some(numbers.3), client: Some(address),
            alias: Some(&alias), tried: &tried,
            ..full(&id, &principal)
        });
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(line.chars().last(), Some('\n'));
        let parsed: Value = serde_json::from_str(&line).unwrap();
        // Generated texts are shorter than the caps, in bytes: 100 characters of 4 bytes are not.
        for (field, sent) in [("tenant", &tenant), ("user", &user), ("model", &model)] {
            if sent.len() <= 256 {
                prop_assert_eq!(&parsed[field], sent);
            }
        }
        prop_assert_eq!(&parsed["bytes_in"], numbers.0);
        prop_assert_eq!(&parsed["bytes_out"], numbers.1);
        prop_assert_eq!(parsed["tried"].as_array().map_or(0, Vec::len), tries);
        prop_assert_eq!(&parsed["attempts"], numbers.2);
        prop_assert_eq!(&parsed["status"], numbers.3);
        prop_assert_eq!(parsed["client"].as_str().unwrap().parse::<IpAddr>().unwrap(), address.to_canonical());
        prop_assert_eq!(&parsed["user_agent"], &*String::from_utf8_lossy(&agent));
    }
}
