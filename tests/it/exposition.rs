//! Reads Prometheus' text format, version 0.0.4, and puts up with nothing: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    /// A label's value; empty where it has none, which is the same to Prometheus.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The families of an exposition, by name.
///
/// # Panics
/// Wherever it is not well formed: a family in two places, one without HELP and TYPE, a series twice, buckets that are not cumulative.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let (mut helped, mut current) = (None::<String>, None::<String>);
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(is_name(name) && !help.is_empty() && !families.contains_key(name), "{line}");
            (helped, current) = (Some(name.to_owned()), None);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert_eq!(helped.take().as_deref(), Some(name), "TYPE follows HELP");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "a counter's name ends in _total: {line}");
            families.insert(name.to_owned(), Family { kind: kind.to_owned(), samples: Vec::new() });
            current = Some(name.to_owned());
        } else {
            let sample = sample(line);
            let name = current.as_deref().unwrap_or_else(|| panic!("no family: {line}"));
            let family = families.get_mut(name).unwrap();
            let suffix = sample.name.strip_prefix(name).unwrap_or_else(|| panic!("in the family {name}: {line}"));
            match &*family.kind {
                "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
                kind => assert!(suffix.is_empty() && (kind != "counter" || sample.value >= 0.0), "{line}"),
            }
            assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
            family.samples.push(sample);
        }
    }
    families.iter().filter(|(_, family)| family.kind == "histogram").for_each(|(name, family)| check_histogram(name, family));
    families
}

fn check_histogram(name: &str, family: &Family) {
    /// Buckets by their bounds, the sum, and the count.
    type Parts = (Vec<(f64, f64)>, Option<f64>, Option<f64>);
    let mut by_labels: BTreeMap<_, Parts> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let (buckets, sum, count) = by_labels.entry(labels).or_default();
        match (sample.name.strip_prefix(name), bound) {
            (Some("_bucket"), Some(bound)) => buckets.push((number(&bound), sample.value)),
            (Some("_sum"), None) => *sum = Some(sample.value),
            (Some("_count"), None) => *count = Some(sample.value),
            _ => panic!("{sample:?}"),
        }
    }
    for (labels, (buckets, sum, count)) in by_labels {
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{name}{labels:?}: {buckets:?}");
        let all = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, number)| *number);
        assert!(all.is_some() && all == count && sum.is_some(), "{name}{labels:?}: no +Inf, or it is not the count {count:?}: {buckets:?}");
    }
}

fn sample(line: &str) -> Sample {
    let bad = || -> ! { panic!("not a sample: {line}") };
    let end = line.find(['{', ' ']).unwrap_or_else(|| bad());
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| bad());
            let (value, after) = quoted(after).unwrap_or_else(|| bad());
            assert!(is_name(label) && !label.contains(':') && labels.insert(label.to_owned(), value).is_none(), "{line}");
            match (after.strip_prefix(','), after.strip_prefix('}')) {
                (Some(more), _) => rest = more,
                (_, Some(end)) => break rest = end,
                _ => bad(),
            }
        }
    }
    assert!(is_name(name), "{line}");
    let value = rest.strip_prefix(' ').unwrap_or_else(|| bad());
    Sample { name: name.to_owned(), labels, value: number(value) }
}

/// A value up to its closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            }),
            '\n' => return None,
            char => value.push(char),
        }
    }
    None
}

fn number(text: &str) -> f64 {
    if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap_or_else(|_| panic!("not a number: {text}")) }
}

fn is_name(text: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    text.bytes().next().is_some_and(is_start) && text.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}

#[test]
#[should_panic(expected = "twice")]
fn a_series_that_comes_twice_is_not_let_pass() {
    parse("# HELP a x\n# TYPE a gauge\na{b=\"1\"} 1\na{b=\"1\"} 2\n");
}

#[test]
#[should_panic(expected = "+Inf")]
fn a_histogram_without_its_last_bucket_is_not_let_pass() {
    parse("# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n");
}
