//! The corpora of the fuzz targets, replayed without cargo-fuzz.

#[path = "../../fuzz/judges/authorization.rs"]
mod authorization;

#[path = "../../fuzz/judges/reply.rs"]
mod reply;
#[path = "../../fuzz/judges/weigh.rs"]
mod weigh;

use std::path::Path;

fn replay(corpus: &str, judge: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let mut inputs = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        judge(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus of `{corpus}` is gone");
}

#[test]
fn no_credential_of_the_corpus_panics_or_is_let_in() {
    replay("authorization", authorization::judge);
}

#[test]
fn no_split_of_an_answer_of_the_corpus_changes_what_is_found() {
    replay("event_stream", reply::event_stream);
    replay("json", reply::json);
    replay("server_sent_events", reply::server_sent_events);
}

#[test]
fn no_body_of_the_corpus_weighs_more_than_it_is() {
    replay("weigh", weigh::judge);
}
