//! However an answer's bytes are split, the same is found.

use proptest::prelude::*;

use super::super::Ended;
use super::shapes;

#[test]
fn every_shape_tells_its_usage() {
    for answer in shapes::all() {
        assert_eq!(answer.measured([&*answer.body], Ended::Whole).usage, answer.usage, "{}", answer.name);
    }
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for answer in shapes::all() {
        for at in 0..=answer.body.len() {
            let (head, tail) = answer.body.split_at(at);
            assert_eq!(answer.measured([head, tail], Ended::Whole).usage, answer.usage, "{}, split at {at}", answer.name);
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_tell_the_same() {
    for answer in shapes::all() {
        assert_eq!(answer.measured(answer.body.chunks(1), Ended::Whole).usage, answer.usage, "{}", answer.name);
    }
}

proptest! {
    #[test]
    fn any_split_tells_the_same(sizes in prop::collection::vec(1_usize..90, 1..12)) {
        for answer in shapes::all() {
            let mut rest = &answer.body[..];
            let mut pieces = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(answer.measured(pieces, Ended::Whole).usage, answer.usage, "{}", answer.name);
        }
    }
}
