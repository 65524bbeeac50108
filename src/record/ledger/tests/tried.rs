//! What tries used that were given up, and what mirrored calls used.

use proptest::prelude::*;

use super::*;
use crate::domain::MIRROR_TENANT;
use crate::record::entry::Tried;
use crate::record::labels::Attempt;

/// A try that AWS bills, and that was given up.
fn given_up(id: &str, usage: Usage) -> Tried {
    Tried {
        target: "first".into(),
        upstream: "use1".into(),
        model: Some("eu.m".into()),
        outcome: Attempt::Exception,
        status: Some(200),
        upstream_request_id: Some(id.as_bytes().into()),
        began: Duration::from_secs(2),
        took: Duration::from_millis(40),
        usage: Some(usage),
        cost: Cost::Priced(Usd::from_picos(7)),
    }
}

fn only(file: &Path, by: By, name: &str) -> UsageRow {
    let found: Vec<_> = rows(file, by).into_iter().filter(|(found, _)| found == name).collect();
    let [(_, row)] = &*found else { panic!("{name}: {found:?}") };
    row.clone()
}

#[test]
fn what_a_try_used_is_summed_under_its_upstream_and_model_and_is_no_call() {
    let dir = Dir::new();
    let (ledger, faults) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", Some("ada")), used(10, 3));
    let silent = Tried { usage: None, cost: Cost::Nothing, status: None, upstream_request_id: None, ..given_up("", usage) };
    let entry = Entry { tried: &[given_up("one", used(100, 30)), silent], ..answered(&id, &ada, &usage) };
    ledger.note(&entry);
    // Twice the same, so that sums are added to.
    ledger.note(&entry);
    assert!(ledger.flush(PATIENCE));
    let file = dir.file();
    for (by, name, calls, input, picos) in [
        (By::Upstream, "primary", 2, 20, 10),
        (By::Upstream, "use1", 0, 200, 14),
        (By::Model, "m", 2, 20, 10),
        (By::Model, "eu.m", 0, 200, 14),
        (By::User, "acme ada", 2, 220, 24),
        (By::Operation, "converse", 2, 220, 24),
        (By::Hour, "2026-11-22T13:00Z", 2, 220, 24),
    ] {
        let row = only(&file, by, name);
        assert_eq!((row.calls, row.failed, row.tokens.input, row.cost), (calls, 0, input, Usd::from_picos(picos)), "{name}");
    }
    assert_eq!(number(&file, "SELECT count(*) FROM exchanges"), 4);
    let single =
        "FROM exchanges WHERE upstream_request_id = 'one' AND upstream = 'use1' AND model = 'eu.m' AND input = 100 AND cost_picos = 7";
    assert_eq!(number(&file, &format!("SELECT count(*) {single}")), 2);
    assert_eq!(number(&file, &format!("SELECT min(at) {single}")), i64::try_from(BEGAN.as_millis()).unwrap() + 2_000, "its own beginning");
    assert_eq!(number(&file, "SELECT count(DISTINCT request_id) FROM exchanges"), 1);
    assert_eq!(faults.errors.get() + faults.usage_dropped.get() + faults.exchanges_dropped.get() + faults.folded.get(), 0);
}

#[test]
fn a_call_is_estimated_and_unpriced_once_however_many_of_its_tries_were() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(10, 3));
    let estimate = Usage { basis: Basis::Estimated, ..used(7, 2) };
    let vague = || Tried { cost: Cost::Unpriced, ..given_up("x", estimate) };
    ledger.note(&Entry { tried: &[vague(), vague()], ..answered(&id, &ada, &usage) });
    ledger.note(&Entry { tried: &[vague()], cost: Cost::Unpriced, ..answered(&id, &ada, &estimate) });
    assert!(ledger.flush(PATIENCE));
    let tried = only(&dir.file(), By::Upstream, "use1");
    assert_eq!((tried.calls, tried.estimated_calls, tried.unpriced_calls, tried.tokens.input), (0, 1, 1, 21));
    let all = only(&dir.file(), By::Tenant, "acme");
    assert_eq!((all.calls, all.estimated_calls, all.unpriced_calls), (2, 2, 2));
    assert_eq!(number(&dir.file(), "SELECT sum(estimated_input) FROM usage"), 28);
}

#[test]
fn a_model_that_nobody_answered_for_has_no_name_in_a_try_either() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    let silent = Tried { status: None, ..given_up("x", usage) };
    let same = Tried { model: None, ..silent.clone() };
    ledger.note(&Entry { tried: &[silent], ..answered(&id, &ada, &usage) });
    ledger.note(&Entry { tried: std::slice::from_ref(&same), ..answered(&id, &ada, &usage) });
    ledger.note(&Entry { tried: &[same], status: Some(503), ..answered(&id, &ada, &usage) });
    assert!(ledger.flush(PATIENCE));
    let models: Vec<_> = rows(&dir.file(), By::Model).into_iter().map(|(name, row)| (name, row.tokens.input)).collect();
    assert_eq!(models, [("m".to_owned(), 3), ("other".to_owned(), 3)]);
}

#[test]
fn tries_beyond_the_bound_of_single_exchanges_are_counted_each() {
    let dir = Dir::new();
    let faults = faults();
    let bounds = Bounds { exchanges: 2, ..Bounds::USUAL };
    let open = store::opener(dir.file());
    let ledger = Ledger::start_with(&config(dir.file()), open, bounds, faults.clone(), clock()).unwrap();
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    let tries = ["a", "b", "c", "d"].map(|name| given_up(name, usage));
    // In one batch: an entry is noted whole.
    ledger.note(&Entry { tried: &tries, ..answered(&id, &ada, &usage) });
    assert!(ledger.flush(PATIENCE));
    assert_eq!((faults.exchanges_dropped.get(), number(&dir.file(), "SELECT count(*) FROM exchanges")), (3, 2));
    assert_eq!(only(&dir.file(), By::Tenant, "acme").tokens.input, 5, "their usage is not lost");
}

#[test]
fn a_mirrored_call_is_booked_apart_from_every_tenant() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada, usage) = (RequestId::random(), principal("acme", Some("ada")), used(10, 3));
    let entry = answered(&id, &ada, &usage);
    ledger.note(&entry);
    ledger.note(&Entry { mirror_of: Some(&id), tried: &[given_up("x", used(100, 30))], upstream: Some("canary"), ..entry });
    assert!(ledger.flush(PATIENCE));
    let by_user: Vec<_> = rows(&dir.file(), By::User).into_iter().map(|(name, row)| (name, row.calls, row.tokens.input)).collect();
    assert_eq!(by_user, [(format!("{MIRROR_TENANT} "), 1, 110), ("acme ada".to_owned(), 1, 10)]);
    let alone = super::usage(&dir.file(), &UsageQuery { tenant: Some(MIRROR_TENANT.into()), ..all(By::Upstream) }).unwrap();
    assert_eq!(alone.iter().map(|row| row.tokens.input).collect::<Vec<_>>(), [10, 100]);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges WHERE tenant = '(mirror)' AND user = ''"), 2);
}

prop_compose! {
    fn tried()(
        at in prop::sample::select(vec!["primary", "use1"]), model in prop::option::of(prop::sample::select(vec!["m", "n"])),
        status in prop::sample::select(vec![None, Some(200), Some(503)]), counts in prop::option::of((0_u64..1 << 40, 0_u64..1 << 40, any::<bool>())),
        picos in prop::option::of(0_u64..1 << 50),
    ) -> Tried {
        let basis = |estimated| if estimated { Basis::Estimated } else { Basis::Reported };
        let usage = counts.map(|(input, output, estimated)| Usage { basis: basis(estimated), ..used(input, output) });
        let cost = picos.map_or(Cost::Unpriced, |picos| Cost::Priced(Usd::from_picos(picos)));
        Tried { upstream: at.into(), model: model.map(Into::into), status, usage, cost, ..given_up("id", used(0, 0)) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_read_is_what_the_tries_and_the_answers_used(exchanges in prop::collection::vec(prop::collection::vec(tried(), 0..5), 0..20)) {
        let dir = Dir::new();
        let (ledger, _) = start(&dir.file());
        let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(10, 3));
        let mut expected = UsageRow { keys: vec![("tenant", "acme".to_owned())], ..UsageRow::default() };
        let mut singles = 0;
        for tried in &exchanges {
            ledger.note(&Entry { tried, ..answered(&id, &ada, &usage) });
            let metered = || tried.iter().filter_map(|tried| Some((tried.usage?, tried.cost)));
            expected.add(&UsageRow {
                calls: 1,
                estimated_calls: metered().any(|(usage, _)| usage.basis == Basis::Estimated).into(),
                unpriced_calls: metered().any(|(_, cost)| cost == Cost::Unpriced).into(),
                tokens: usage.tokens,
                cost: Usd::from_picos(5),
                ..UsageRow::default()
            });
            for (usage, cost) in metered() {
                let cost = if let Cost::Priced(cost) = cost { cost } else { Usd::ZERO };
                expected.add(&UsageRow { tokens: usage.tokens, cost, ..UsageRow::default() });
            }
            singles += 1 + metered().count();
        }
        prop_assert!(ledger.flush(PATIENCE));
        let found: Vec<_> = rows(&dir.file(), By::Tenant).into_iter().map(|(_, row)| row).collect();
        prop_assert_eq!(found, if exchanges.is_empty() { vec![] } else { vec![expected] });
        prop_assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), i64::try_from(singles).unwrap());
    }
}
