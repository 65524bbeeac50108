use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn faults() -> Faults {
    Faults { dropped: IntCounter::new("dropped", "d").unwrap(), errors: IntCounter::new("errors", "e").unwrap() }
}

fn piped(capacity: usize) -> (AccessLog, Faults, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let faults = faults();
    let sink = Sink::new(File::from(OwnedFd::from(writer)), None, faults.clone());
    (AccessLog::start_with(sink, faults.clone(), capacity).unwrap(), faults, reader)
}

fn in_file(name: &str) -> (AccessLog, Faults, PathBuf) {
    let path = std::env::temp_dir().join(format!("tollgate-{}-{name}.log", std::process::id()));
    drop(std::fs::remove_file(&path));
    let faults = faults();
    (AccessLog::start(&Destination::File(path.clone()), faults.clone()).unwrap(), faults, path)
}

#[test]
fn when_nobody_reads_lines_are_dropped_at_the_bound_and_counted_and_the_rest_arrive_whole() {
    let capacity = 100_000;
    let (log, faults, mut reader) = piped(capacity);
    // A Linux pipe holds 65,536 bytes; what it took is not ours any more, so that much may be accepted beyond the capacity.
    let mut sent = 0;
    while faults.dropped.get() < 1_000 {
        log.append(format!("{sent:099}\n").as_bytes());
        sent += 1;
    }
    {
        let queue = log.shared.queue.lock();
        assert!(queue.waiting.len() + queue.writing <= capacity);
        assert!(queue.waiting.capacity() <= 2 * capacity);
    }
    assert!(!log.flush(Duration::from_millis(1)), "nobody reads");

    drop(log);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read.lines().count() as u64 + faults.dropped.get(), sent);
    assert!(read.ends_with('\n') && read.lines().all(|line| line.len() == 99));
    assert_eq!(faults.errors.get(), 0);
}

#[test]
fn lines_arrive_in_order_from_many_threads_none_torn() {
    let (log, faults, mut reader) = piped(CAPACITY);
    let reading = thread::spawn(move || {
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        read
    });
    thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || (0..2_000).for_each(|line| log.append(format!("{thread} {line:04}\n").as_bytes())));
        }
    });
    assert!(log.flush(PATIENCE));
    drop(log);
    let read = reading.join().unwrap();
    for thread in 0..4 {
        let lines: Vec<_> = read.lines().filter_map(|line| line.strip_prefix(&format!("{thread} "))).collect();
        assert_eq!(lines.len(), 2_000);
        assert!(lines.is_sorted());
    }
    assert_eq!(faults.dropped.get(), 0);
}

#[test]
fn a_reader_that_left_costs_lines_and_no_panic() {
    let (log, faults, reader) = piped(CAPACITY);
    drop(reader);
    log.append(b"one\n");
    assert!(log.flush(PATIENCE));
    log.append(b"two\nthree\n");
    assert!(log.flush(PATIENCE));
    assert_eq!(faults.dropped.get(), 3);
    assert_eq!(faults.errors.get(), 2);
}

#[test]
fn a_full_disk_costs_lines_and_is_counted() {
    let faults = faults();
    let log = AccessLog::start(&Destination::File("/dev/full".into()), faults.clone()).unwrap();
    log.append(b"one\ntwo\n");
    assert!(log.flush(PATIENCE));
    assert_eq!((faults.dropped.get(), faults.errors.get()), (2, 1));
}

#[test]
fn a_torn_line_is_ended_before_the_next_begins() {
    let path = std::env::temp_dir().join(format!("tollgate-{}-torn.log", std::process::id()));
    drop(std::fs::remove_file(&path));
    let mut sink = Sink::open(&Destination::File(path.clone()), faults()).unwrap();
    sink.file.write_all(b"half a li").unwrap();
    sink.torn = true;
    sink.write(b"whole\n");
    sink.write(b"whole too\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nwhole\nwhole too\n");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn after_rotation_lines_go_to_the_new_file() {
    let (log, faults, path) = in_file("rotated");
    log.append(b"before\n");
    assert!(log.flush(PATIENCE));
    let aside = path.with_extension("log.1");
    std::fs::rename(&path, &aside).unwrap();
    log.append(b"still before\n");
    assert!(log.flush(PATIENCE));
    log.reopen();
    assert!(log.flush(PATIENCE), "an order to reopen is carried out without a line");
    log.append(b"after\n");
    assert!(log.flush(PATIENCE));
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "before\nstill before\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");

    // Where the file can't be had anew, the old one is kept.
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    log.reopen();
    log.append(b"kept\n");
    assert!(log.flush(PATIENCE));
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "after\nkept\n");
    assert_eq!((faults.errors.get(), faults.dropped.get()), (1, 0));
    std::fs::remove_dir(path).unwrap();
    std::fs::remove_file(aside).unwrap();
}

#[test]
fn a_log_is_appended_to_and_is_not_for_everyone_to_read() {
    use std::os::unix::fs::PermissionsExt;

    let (log, faults, path) = in_file("appended");
    log.append(b"one\n");
    assert!(log.flush(PATIENCE));
    let again = AccessLog::start(&Destination::File(path.clone()), faults).unwrap();
    again.append(b"two\n");
    assert!(again.flush(PATIENCE));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_the_start() {
    assert!(AccessLog::start(&Destination::File("/nonexistent/access.log".into()), faults()).is_err());
}
