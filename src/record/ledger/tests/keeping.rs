//! What is kept, and for how long.

use super::super::batch::Batch;
use super::super::store::opener;
use super::*;

#[test]
fn single_exchanges_are_kept_where_they_are_metered_and_named_by_the_upstream() {
    let dir = Dir::new();
    let (ledger, _) = start(&dir.file());
    let (id, ada) = (RequestId::random(), principal("acme", Some("ada")));
    let usage = Usage {
        tokens: Tokens { input: 1, output: 2, cache_read: 3, cache_write_5m: 4, cache_write_1h: 5, reasoning: 6 },
        basis: Basis::Estimated,
        ..used(0, 0)
    };
    let entry = Entry { upstream_request_id: Some(b"aws-1"), cost: Cost::Unpriced, ..answered(&id, &ada, &usage) };
    ledger.note(&entry);
    ledger.note(&Entry { upstream_request_id: None, ..entry });
    ledger.note(&Entry { usage: None, ..entry });
    ledger.note(&Entry { upstream_request_id: Some(&[0xff; 8]), ..entry });
    ledger.note(&Entry { upstream_request_id: Some(&[b'x'; 1000]), ..entry });
    assert!(ledger.flush(PATIENCE));
    let connection = rusqlite::Connection::open(dir.file()).unwrap();
    let text = connection
        .query_row(
            "SELECT count(*), group_concat(concat_ws(' ', at, upstream_request_id, request_id, tenant, user, model, upstream, operation,
             input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, estimated, ifnull(cost_picos, 'none'))) FROM exchanges",
            [],
            |row| Ok(format!("{}: {}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )
        .unwrap();
    assert_eq!(text, format!("1: 1795352444123 aws-1 {id} acme ada m primary converse 1 2 3 4 5 6 1 none"));
    assert_eq!(calls(&dir.file()), 5);
}

#[test]
fn where_none_are_to_be_kept_none_are() {
    let dir = Dir::new();
    let config = Config { keep_exchanges: Duration::ZERO, ..config(dir.file()) };
    let ledger = Ledger::start(&config, faults(), clock()).unwrap();
    ledger.note(&answered(&RequestId::random(), &principal("acme", None), &used(1, 1)));
    assert!(ledger.flush(PATIENCE));
    assert_eq!(calls(&dir.file()), 1);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), 0);
}

#[test]
fn what_is_too_old_is_deleted_in_steps_and_what_is_not_stays() {
    const DAY: Duration = Duration::from_hours(24);
    let dir = Dir::new();
    let open = opener(dir.file());
    let mut store = Store::new(dir.file(), open, DAY * 400, DAY * 7).unwrap();
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    let mut batch = Batch::default();
    for age in [DAY * 402, DAY * 401, DAY * 399, DAY * 8, DAY * 6, Duration::ZERO] {
        let entry = Entry { began: now() - age, ..answered(&id, &ada, &usage) };
        for _ in 0..4_000 {
            batch.add(Names::of(&entry).unwrap(), &entry, true, Bounds::USUAL);
        }
    }
    store.write(&batch, 1, now()).unwrap();
    rusqlite::Connection::open(dir.file()).unwrap().execute("INSERT INTO batches VALUES ('gone', 1, 0)", []).unwrap();
    let mut steps = 0;
    while store.prune(now()).unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 2, "an hour and 10,000 exchanges a step");
    assert_eq!(calls(&dir.file()), 4 * 4_000);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM exchanges"), 2 * 4_000);
    assert_eq!(number(&dir.file(), "SELECT count(*) FROM batches"), 1);
}

#[test]
fn the_writer_deletes_what_is_too_old_as_it_starts() {
    let dir = Dir::new();
    let hands = ManualClock::starting_at(now());
    let (id, ada, usage) = (RequestId::random(), principal("acme", None), used(1, 1));
    for _ in 0..2 {
        let ledger = Ledger::start(&config(dir.file()), faults(), Clock::Manual(hands.clone())).unwrap();
        ledger.note(&Entry { began: hands_now(&hands), ..answered(&id, &ada, &usage) });
        assert!(ledger.flush(PATIENCE));
        hands.advance(Duration::from_hours(401 * 24));
    }
    let ledger = Ledger::start(&config(dir.file()), faults(), Clock::Manual(hands)).unwrap();
    drop(ledger);
    let hold = || super::super::lock::hold(&dir.file()).unwrap();
    // Both places: the writer has let go of its own.
    drop((hold(), hold()));
    assert!(number(&dir.file(), "SELECT count(*) FROM usage") <= 1);
}

fn hands_now(hands: &ManualClock) -> SystemTime {
    Clock::Manual(hands.clone()).wall()
}
