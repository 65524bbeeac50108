//! The corpora of the fuzz targets, replayed without cargo-fuzz.

#[path = "../../fuzz/judges/authorization.rs"]
mod authorization;

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
