//! What goes in comes out: whole, exact and apart.

use proptest::prelude::*;

use super::*;

#[test]
fn exchanges_are_summed_by_what_tells_them_apart() {
    let dir = Dir::new();
    let (ledger, faults) = start(&dir.file());
    let id = RequestId::random();
    let (ada, bob, other) = (principal("acme", Some("ada")), principal("acme", None), principal("zeta", Some("ada")));
    let usage = used(10, 3);
    let entry = answered(&id, &ada, &usage);
    ledger.note(&entry);
    ledger.note(&Entry { model: Some("n"), upstream: Some("second"), ..entry });
    ledger.note(&Entry { principal: Some(&bob), operation: Some("converse-stream"), ..entry });
    ledger.note(&Entry { principal: Some(&other), began: now() + Duration::from_hours(24), ..entry });
    assert!(ledger.flush(PATIENCE));

    let counted = |by| rows(&dir.file(), by).into_iter().map(|(name, row)| (name, row.calls)).collect::<Vec<_>>();
    let expect = |names: &[(&str, u64)]| names.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect::<Vec<_>>();
    assert_eq!(counted(By::Tenant), expect(&[("acme", 3), ("zeta", 1)]));
    assert_eq!(counted(By::User), expect(&[("acme ", 1), ("acme ada", 2), ("zeta ada", 1)]));
    assert_eq!(counted(By::Model), expect(&[("m", 3), ("n", 1)]));
    assert_eq!(counted(By::Upstream), expect(&[("primary", 3), ("second", 1)]));
    assert_eq!(counted(By::Operation), expect(&[("converse", 3), ("converse-stream", 1)]));
    assert_eq!(counted(By::Day), expect(&[("2026-11-22", 3), ("2026-11-23", 1)]));
    assert_eq!(counted(By::Hour), expect(&[("2026-11-22T13:00Z", 3), ("2026-11-23T13:00Z", 1)]));
    let (_, acme) = rows(&dir.file(), By::Tenant).swap_remove(0);
    assert_eq!((acme.tokens.input, acme.tokens.output, acme.cost), (30, 9, Usd::from_picos(15)));
    let usual = super::usage(&dir.file(), &UsageQuery { tenant: Some("acme".into()), by: None, ..all(By::Day) }).unwrap();
    let keys: Vec<_> = usual.iter().map(|row| row.keys.clone()).collect();
    assert_eq!(keys[0], [("tenant", "acme".to_owned()), ("model", "m".to_owned())]);
    assert_eq!(keys[1], [("tenant", "acme".to_owned()), ("model", "n".to_owned())]);
    assert_eq!(keys.len(), 2);
    assert_eq!(faults.errors.get() + faults.usage_dropped.get() + faults.folded.get(), 0);
}

#[test]
fn hours_that_a_time_lies_in_count_whole() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    for hours in 0..3 {
        ledger.note(&Entry { began: now() + Duration::from_hours(hours), ..answered(&id, &ada, &usage) });
    }
    assert!(ledger.flush(PATIENCE));
    let calls = |since, until| super::usage(&dir.file(), &UsageQuery { since, until, ..all(By::Hour) }).unwrap().len();
    let hour = now() - Duration::from_millis(44_123);
    assert_eq!(calls(hour, hour + Duration::from_hours(3)), 3);
    assert_eq!(calls(hour + Duration::from_mins(59), hour + Duration::from_hours(1)), 1);
    assert_eq!(calls(hour + Duration::from_hours(1), hour + Duration::from_hours(2) + Duration::from_millis(1)), 2);
    assert_eq!(calls(hour + Duration::from_hours(3), hour), 0);
}

#[test]
fn refused_failed_estimated_and_unpriced_calls_are_told_apart() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(10, 3));
    let estimate = Usage { basis: Basis::Estimated, ..used(7, 2) };
    let entry = answered(&id, &ada, &usage);
    ledger.note(&entry);
    ledger.note(&Entry { status: Some(429), reason: Some(Reason::RateLimited), usage: None, cost: Cost::Nothing, ..entry });
    ledger.note(&Entry { status: Some(500), usage: None, cost: Cost::Nothing, ..entry });
    ledger.note(&Entry { complete: false, usage: Some(&estimate), ..entry });
    ledger.note(&Entry { cost: Cost::Unpriced, ..entry });
    ledger.note(&Entry { principal: None, ..entry });
    assert!(ledger.flush(PATIENCE));
    let [(_, row)] = &*rows(&dir.file(), By::Tenant) else { panic!("one tenant") };
    assert_eq!((row.calls, row.refused, row.failed, row.estimated_calls, row.unpriced_calls), (5, 1, 2, 1, 1));
    assert_eq!((row.tokens.input, row.cost), (27, Usd::from_picos(10)));
    assert_eq!(number(&dir.file(), "SELECT sum(estimated_input) FROM usage"), 7);
    let models: Vec<_> = rows(&dir.file(), By::Model).into_iter().map(|(name, row)| (name, row.calls)).collect();
    assert_eq!(models, [("m".to_owned(), 3), ("other".to_owned(), 2)], "a model that nobody answered for may be made up");
}

#[test]
fn names_are_data_whatever_they_say() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, usage) = (RequestId::random(), used(1, 1));
    let names = ["'; DROP TABLE usage; --", "a\" OR 1=1", "?3", "%", "Ünïcode\u{0}nul", "acme"];
    for name in names {
        ledger.note(&Entry { model: Some(name), ..answered(&id, &principal(name, Some(name)), &usage) });
    }
    let long = "é".repeat(500);
    ledger.note(&Entry { model: Some(&long), ..answered(&id, &principal(&long, None), &usage) });
    assert!(ledger.flush(PATIENCE));
    for name in names {
        let found = super::usage(&dir.file(), &UsageQuery { tenant: Some(name.into()), ..all(By::User) }).unwrap();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].keys, [("tenant", name.to_owned()), ("user", name.to_owned())]);
    }
    assert_eq!(number(&dir.file(), "SELECT max(length(CAST(tenant AS BLOB))) FROM usage"), 256);
}

#[test]
fn sums_are_exact_and_stop_where_the_numbers_end() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(u64::MAX, (1 << 53) + 1));
    let entry = Entry { cost: Cost::Priced(Usd::from_picos(u64::MAX)), ..answered(&id, &ada, &usage) };
    for round in 0_u32..3 {
        ledger.note(&entry);
        ledger.note(&Entry { model: Some("n"), ..entry });
        ledger.note(&Entry { model: Some("o"), ..entry });
        assert!(ledger.flush(PATIENCE), "{round}");
    }
    let [(_, row)] = &*rows(&dir.file(), By::Tenant) else { panic!("one tenant") };
    assert_eq!(row.tokens.input, u64::MAX, "three rows of i64::MAX");
    assert_eq!(row.tokens.output, 9 * ((1 << 53) + 1));
    assert_eq!(row.cost, Usd::from_picos(u64::MAX));
    let (_, model) = rows(&dir.file(), By::Model).swap_remove(0);
    assert_eq!(model.tokens.input, i64::MAX.cast_unsigned());
}

#[derive(Clone, Debug)]
struct Called {
    tenant: u8,
    model: u8,
    hours: u8,
    status: u16,
    tokens: Tokens,
    cost: Option<u64>,
    flush: bool,
}

prop_compose! {
    fn called()(
        tenant in 0_u8..3, model in 0_u8..3, hours in 0_u8..3, status in prop::sample::select(vec![200_u16, 429, 500]),
        counts in prop::array::uniform6(0_u64..1 << 40), cost in prop::option::of(0_u64..1 << 50), flush: bool,
    ) -> Called {
        let [input, output, cache_read, short, long, reasoning] = counts;
        let tokens = Tokens { input, output, cache_read, cache_write_5m: short, cache_write_1h: long, reasoning };
        Called { tenant, model, hours, status, tokens, cost, flush }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_noted_in_whatever_batches_is_what_is_read(sequence in prop::collection::vec(called(), 0..40)) {
        let dir = Dir::new();
        let (ledger, _) = start(&dir.file());
        let mut expected = std::collections::BTreeMap::<(String, String), UsageRow>::new();
        for call in &sequence {
            let (tenant, model) = (format!("t{}", call.tenant), format!("m{}", call.model));
            let usage = Usage { tokens: call.tokens, ..used(0, 0) };
            let id = RequestId::random();
            let cost = call.cost.map_or(Cost::Unpriced, |picos| Cost::Priced(Usd::from_picos(picos)));
            let began = now() + Duration::from_hours(call.hours.into());
            ledger.note(&Entry { model: Some(&model), began, status: Some(call.status), cost, ..answered(&id, &principal(&tenant, None), &usage) });
            if call.flush {
                prop_assert!(ledger.flush(PATIENCE));
            }
            let model = if call.status == 200 { model } else { "other".to_owned() };
            let row = expected.entry((tenant.clone(), model.clone())).or_default();
            row.keys = vec![("tenant", tenant), ("model", model)];
            let (unpriced_calls, picos) = (u64::from(call.cost.is_none()), call.cost.unwrap_or(0));
            let failed = u64::from(call.status != 200);
            row.add(&UsageRow { calls: 1, failed, tokens: call.tokens, cost: Usd::from_picos(picos), unpriced_calls, ..UsageRow::default() });
        }
        prop_assert!(ledger.flush(PATIENCE));
        let found = super::usage(&dir.file(), &UsageQuery { by: None, ..all(By::Day) }).unwrap();
        prop_assert_eq!(found, expected.into_values().collect::<Vec<_>>());
        prop_assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), i64::try_from(sequence.len()).unwrap());
    }
}
