//! What operators see: golden files, places, secrets, and that nothing panics.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::prices::Table;
use super::{Config, Faults};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test's own: TOLLGATE_BLESS=1 writes the golden files anew")]
fn blessing() -> bool {
    std::env::var("TOLLGATE_BLESS").is_ok()
}

fn files_with(extension: &str, directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Compares how each file of a directory reads with the text beside it.
fn goldens<T: std::fmt::Debug>(directory: &str, least: usize, parse: impl Fn(&str, &Path) -> Result<T, Faults>) {
    let inputs = files_with("yaml", &root().join(directory));
    assert!(inputs.len() >= least, "the golden files are gone");
    let mut wrong = Vec::new();
    for input in inputs {
        let text = fs::read_to_string(&input).unwrap();
        let read = match parse(&text, Path::new(input.file_name().unwrap())) {
            Ok(read) => format!("{read:#?}\n"),
            Err(faults) => format!("{faults}\n"),
        };
        let golden = input.with_extension("txt");
        if blessing() {
            fs::write(&golden, &read).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != read {
            wrong.push(format!("{}:\n{read}", input.display()));
        }
    }
    assert!(wrong.is_empty(), "TOLLGATE_BLESS=1 writes them anew, if this is right:\n{}", wrong.join("\n"));
}

#[test]
fn every_golden_file_reads_as_its_text_says() {
    goldens("tests/golden/config", 15, Config::parse);
}

#[test]
fn every_golden_file_of_prices_reads_as_its_text_says() {
    goldens("tests/golden/prices", 3, Table::parse);
}

#[test]
fn the_gateway_yaml_at_the_root_is_valid() {
    let config = Config::load(&root().join("gateway.yaml")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.limits.len(), 4);
}

#[test]
fn a_place_counts_lines_and_characters_from_one() {
    let place = |text: &str, path: &str| {
        let faults = Config::parse(text, Path::new("gateway.yaml")).unwrap_err();
        let fault = faults.all().iter().find(|fault| fault.path == path).unwrap_or_else(|| panic!("no fault at {path}: {faults}"));
        fault.place.map(|place| (place.line, place.column))
    };
    assert_eq!(place("wrong: 1\n", "wrong"), Some((1, 1)));
    assert_eq!(place("admin: { wrong: 1 }\n", "admin.wrong"), Some((1, 10)));
    assert_eq!(place("admin: { address: 1 }\n", "admin.address"), Some((1, 19)));
    assert_eq!(place("# ä\r\n\r\nadmin:\r\n  address: \"ü\"\r\n", "admin.address"), Some((4, 12)));
    assert_eq!(place("a: 1\rb: 2\u{2028}c: 3\u{85}wrong: 4", "wrong"), Some((4, 1)));
    assert_eq!(place("\u{feff}wrong: 1\n", "wrong"), Some((1, 1)));
    assert_eq!(place("firewall: { ä: &size x, max_body: *size }\n", "firewall.max_body"), Some((1, 16)), "where the anchor is");
    assert_eq!(place("limits:\n- name: rpm\n  rate: 1/fortnight\n", "limits[0].rate"), Some((3, 9)));
    assert_eq!(place("limits:\n- name: rpm\n  rate: |\n    600\n", "limits[0].rate"), Some((3, 9)));
    assert_eq!(place("limits: []\n", ""), None, "what is missing has no place");
}

#[test]
fn an_anchor_is_used_but_never_defined_twice() {
    let limits = |rules: &str| {
        let text = completed(&format!("limits:\n- {{ name: &x a, count: requests, rate: &r 1/second }}\n{rules}"));
        Config::parse(&text, Path::new("gateway.yaml")).map(|config| config.limits)
    };
    let rules = limits("- { name: b, count: requests, rate: *r } # &x R&D &r\n").unwrap();
    assert_eq!(rules[0].bound, rules[1].bound);
    // serde_yaml 0.9.34 would take `*r` for `c` here.
    let faults = limits("- { name: &x b, count: requests, rate: &r 2/second }\n- { name: &y c, count: requests, rate: *r }\n").unwrap_err();
    assert!(faults.to_string().contains("gateway.yaml:6:11: the anchor `&x` is defined twice"), "{faults}");
}

#[test]
fn quantities_mean_what_they_say() {
    let firewall = |key: &str, value: &str| {
        let text = completed(&format!("firewall: {{ body_memory: 1000GB, {key}: {value} }}\n"));
        Config::parse(&text, Path::new("gateway.yaml")).map_or_else(|faults| panic!("{faults}"), |config| config.firewall)
    };
    for (written, bytes) in [
        ("1", 1),
        ("2B", 2),
        ("1KB", 1_000),
        ("1KiB", 1_024),
        ("25MB", 25_000_000),
        ("1MiB", 1 << 20),
        ("2GB", 2_000_000_000),
        ("1GiB", 1 << 30),
    ] {
        assert_eq!(firewall("max_body", written).max_body, bytes, "{written}");
    }
    for (written, seconds) in [("1500ms", 1.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("1d", 86_400.0), ("365d", 31_536_000.0)] {
        assert_eq!(firewall("body_timeout", written).body_timeout.as_secs_f64().to_bits(), f64::to_bits(seconds), "{written}");
    }
    for (written, per_second) in [("100/second", 100), ("600/minute", 10), ("7200/hour", 2)] {
        assert_eq!(firewall("flood", &format!("{{ rate: {written} }}")).flood.unwrap().per_second, per_second, "{written}");
    }
}

#[test]
fn a_password_in_an_endpoint_is_not_shown() {
    for endpoint in
        ["https://me:hunter2@example.com", "me:hunter2@example.com", "https://me:hun/ter2@example.com", "\"ftp://me:a,hunter2@x\""]
    {
        let text = completed(&format!("upstreams: {{ use1: {{ region: us-east-1, endpoint: {endpoint} }} }}\n"));
        let faults = Config::parse(&text, Path::new("gateway.yaml")).unwrap_err().to_string();
        assert!(faults.contains("***@") && !faults.contains("ter2"), "{faults}");
    }
}

#[test]
fn relative_paths_start_from_the_directory_of_the_file() {
    let text = "
        listeners: [{ address: 127.0.0.1:1, tls: { certificates: [{ certificate: a.pem, key: /k.pem }] } }]
        identity: [{ anonymous: { tenant: public } }]
        upstreams: { use1: { region: us-east-1 } }";
    let config = Config::parse(text, Path::new("/etc/tollgate/gateway.yaml")).unwrap();
    let certificate = &config.listeners[0].tls.as_ref().unwrap().certificates[0];
    assert_eq!(certificate.certificate, Path::new("/etc/tollgate/a.pem"));
    assert_eq!(certificate.key, Path::new("/k.pem"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_and_no_panic() {
    let faults = |path: &Path| Config::load(path).unwrap_err().to_string();
    assert!(faults(Path::new("/nowhere/gateway.yaml")).starts_with("/nowhere/gateway.yaml: can't be read: No such file"));
    let directory = std::env::temp_dir().join(format!("tollgate-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("gateway.yaml");
    fs::write(&file, b"admin:\n  \xff\n").unwrap();
    assert!(faults(&file).contains("line 2 is not UTF-8"));
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(faults(&file).contains("larger than 1048576 bytes"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_file_that_grows_without_end_or_nests_too_deep_is_refused() {
    let message = |text: &str| Config::parse(text, Path::new("gateway.yaml")).unwrap_err().to_string();
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        writeln!(laughs, "a{level}: &a{level} [{}]", vec![below; 9].join(", ")).unwrap();
    }
    assert!(message(&laughs).contains("with anchors expanded"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 50].join(", "));
    assert!(message(&long).contains("with anchors expanded"));
    assert!(message(&"[".repeat(100_000)).contains("nested more than 128 levels deep"));
    assert!(message(&format!("a: {}1{}", "[".repeat(200), "]".repeat(200))).contains("nested more than 128 levels deep"));
    assert!(message("a: &a [*a]").contains("nested more than 128 levels deep"));
}

#[test]
fn a_number_behind_an_anchor_is_read_as_it_is_written() {
    let text = "models: [{ model: a, input: &p 0.1, output: *p }, { model: b, input: *p, output: 0.30 }]";
    let table = Table::parse(text, Path::new("prices.yaml")).unwrap();
    let picos = |at: usize| table.models[at].prices.input.zip(table.models[at].prices.output).map(|(a, b)| (a.picos(), b.picos()));
    assert_eq!([picos(0), picos(1)], [Some((100_000, 100_000)), Some((100_000, 300_000))]);
}

#[test]
fn more_than_fifty_faults_are_counted_and_not_shown() {
    let mut text = String::new();
    (0..80).for_each(|n| writeln!(text, "wrong{n}: 1").unwrap());
    let faults = Config::parse(&text, Path::new("gateway.yaml")).unwrap_err();
    assert_eq!(faults.all().len(), 50);
    assert!(faults.to_string().ends_with("83 faults in gateway.yaml, of which these are the first 50"), "{faults}");
}

/// A base that needs nothing more; each part is left out where a text brings its own.
const BASE: [(&str, &str); 3] = [
    ("listeners", "listeners: [{ address: 127.0.0.1:8080 }]\n"),
    ("identity", "identity: [{ anonymous: { tenant: public } }]\n"),
    ("upstreams", "upstreams: { use1: { region: us-east-1 } }\n"),
];

fn completed(text: &str) -> String {
    let brings = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}:")));
    let missing = BASE.iter().filter(|(key, _)| !brings(key)).map(|(_, part)| *part);
    missing.chain([text]).collect()
}

#[test]
fn every_example_in_the_documentation_is_valid() {
    const SECTIONS: [&str; 10] =
        ["listeners", "admin", "firewall", "identity", "policy", "limits", "upstreams", "routes", "prices", "record"];
    /// Keys of a file of prices.
    const PRICES: [&str; 3] = ["shipped", "models", "guardrail"];
    let mut documents = files_with("md", &root().join("docs"));
    documents.push(root().join("README.md"));
    documents.extend(files_with("md", &root().join("deploy/authorizer")));
    let (mut examples, mut prices) = (0, 0);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap_or_default();
        for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let first = block.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
            if PRICES.iter().any(|key| first.starts_with(&format!("{key}:"))) {
                prices += 1;
                let parsed = Table::parse(block, &document);
                assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
            } else if SECTIONS.iter().any(|section| first.starts_with(&format!("{section}:"))) {
                examples += 1;
                let parsed = Config::parse(&completed(block), &document);
                assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
            }
        }
    }
    assert!(examples >= SECTIONS.len(), "each key has an example");
    assert!(prices >= 2, "a file of prices has examples");
}

/// Words that configuration files are made of, in an order that they are seldom in.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "listeners",
        "admin",
        "identity",
        "jwt",
        "limits",
        "rate",
        "upstreams",
        "credentials",
        "secret_access_key",
        "routes",
        "to",
        "name",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "!t ",
        "!!int ",
        "|",
        ">",
        "#",
        "? ",
        "---\n",
        "<<",
        "~",
        "1",
        "-1.5",
        "600/minute",
        "25MB",
        "30s",
        "true",
        "off",
        "\t",
        "ä",
        "\u{2028}",
        "\r",
        "127.0.0.1:80",
        "https://a:b@c/",
        "us-east-1a",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

/// A secret in the ways that a hand may write it, after what may stand before it and before what may come after.
fn leaky() -> impl Strategy<Value = String> {
    let keys = ["secret_access_key", "\"secret_access_key\"", "password", "session_token", "credentials", "api_key", "- token"];
    let values = [
        "hunter2hunter2",
        "\"hunter2hunter2\"",
        "'hunter2hunter2'",
        "|\n      hunter2hunter2",
        "\n      hunter2hunter2",
        "\"x\n      hunter2hunter2\"",
        "!t hunter2hunter2",
        "&a hunter2hunter2",
        "[hunter2hunter2]",
        "[x,\n      hunter2hunter2]",
        "!!int hunter2hunter2",
        "\n      - hunter2hunter2",
        "a hunter2hunter2",
        "a\n      hunter2hunter2",
    ];
    let before = [
        "upstreams:\n  use1:\n    ",
        "upstreams:\n  use1: { ",
        "upstreams: { use1: { region: 5, ",
        "",
        "identity:\n  - jwt:\n    ",
        "region: \"a\", ",
    ];
    let after = [
        "\n",
        " }\n",
        " }}\n",
        ", rgion: 1 }}\n",
        "\n  wrong: [\n",
        "\n    wrong: 1\n",
        "\n\t\n",
        "\n : x\n",
        "\n      \t@\n",
        "\" }\n",
        "\n      @x\n",
    ];
    let colons = [": ", ":", " : "];
    let select = |from: &[&str]| prop::sample::select(from.iter().map(ToString::to_string).collect::<Vec<_>>());
    (select(&before), select(&keys), select(&colons), select(&values), select(&after)).prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        drop(Config::parse(&text, Path::new("gateway.yaml")).map_err(|faults| faults.to_string()));
    }

    #[test]
    fn no_price_is_read_as_another_number(text in "[-+0-9._eExo]{1,12}") {
        let read = Table::parse(&format!("models: [{{ model: a, input: {text} }}]"), Path::new("prices.yaml"));
        let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        if let (Ok(table), true) = (read, plain) {
            // By the letters: the dot is moved six places.
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let micros: u64 = format!("{whole}{:0<6}", fraction.trim_end_matches('0')).parse().unwrap();
            prop_assert_eq!(table.models[0].prices.input.map(crate::domain::Usd::picos), Some(micros));
        }
    }

    #[test]
    fn no_soup_of_yaml_makes_the_reader_panic(text in soup()) {
        drop(Config::parse(&text, Path::new("gateway.yaml")).map_err(|faults| faults.to_string()));
        drop(Config::parse(&completed(&text), Path::new("gateway.yaml")).map_err(|faults| faults.to_string()));
    }

    #[test]
    fn no_fault_shows_a_secret(text in leaky()) {
        if let Err(faults) = Config::parse(&text, Path::new("gateway.yaml")) {
            prop_assert!(!faults.to_string().contains("hunter2"), "{text}\n=>\n{faults}");
        }
    }
}
