//! The checker, tried on sources made up to break each rule, and on others that keep them all.

use super::rules::{Source, faults};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

/// What the checker says to one file.
fn said(path: &str, text: &str) -> Vec<String> {
    faults(&[source(path, text)]).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refuses(path: &str, text: &str, expected: &str) {
    let said = said(path, text);
    assert!(said.len() == 1 && said[0].contains(expected), "expected one fault with `{expected}` in src/{path}:\n{text}\n{said:#?}");
}

#[track_caller]
fn accepts(path: &str, text: &str) {
    let said = said(path, text);
    assert!(said.is_empty(), "expected no fault in src/{path}:\n{text}\n{said:#?}");
}

#[test]
fn a_room_may_not_import_another_room() {
    refuses(
        "limits/mod.rs",
        "use crate::identity::Verifier;",
        "src/limits/mod.rs:1: `crate::identity::Verifier`: a room knows no other room",
    );
    refuses("limits/bucket.rs", "use super::super::identity;", "a room knows no other room");
    refuses("limits/mod.rs", "fn f() { crate::record::count(1); }", "crate::record::count");
    refuses("limits/mod.rs", "fn f(x: Vec::<crate::record::Line>) {}", "crate::record::Line");
    refuses("limits/mod.rs", "impl<'a> From<crate::record::Line<'a>> for X {}", "crate::record::Line");
    refuses("limits.rs", "macro_rules! m { () => { $crate::record::count() } }", "crate::record::count");
}

#[test]
fn nested_use_trees_are_read_to_their_leaves() {
    let text =
        "use crate::{\n    domain::{Clock, Principal as Caller},\n    config::limits::{self, Rule},\n    routes::{plan::{Plan, *}},\n};";
    let said = said("limits/mod.rs", text);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("src/limits/mod.rs:4: `crate::routes::plan::Plan`"), "{said:#?}");
    assert!(said[1].starts_with("src/limits/mod.rs:4: `crate::routes::plan::*`"), "{said:#?}");
}

#[test]
fn a_room_imports_its_own_section_of_the_configuration_only() {
    accepts("limits/mod.rs", "use crate::config::limits::Rule;\nuse crate::domain::Clock;\nuse self::bucket::Bucket;\nmod bucket;");
    accepts("limits/bucket.rs", "use super::key::Key;\nuse super::*;\npub(in crate::limits) fn f() {}");
    refuses("limits/mod.rs", "use crate::config::routes::Route;", "a room imports `config::limits` only");
    refuses("limits/mod.rs", "use crate::config::Config;", "a room imports `config::limits` only");
    accepts("call/mod.rs", "use crate::config;\nfn f(c: &config::call::Call) {}");
    refuses("call/mod.rs", "use crate::config;\nfn f(c: &config::limits::Rule) {}", "src/call/mod.rs:2: `crate::config::limits::Rule`");
    refuses("call/mod.rs", "use crate::config::{self as c};\nfn f(c: &c::Config) {}", "a room imports `config::call` only");
    refuses("call/mod.rs", "use crate::{domain, config};\nuse config::limits::Rule;", "a room imports `config::call` only");
}

#[test]
fn imports_run_one_way() {
    accepts("state.rs", "use crate::{config::Config, limits::Limits, domain::Clock};");
    accepts("proxy/admit.rs", "use crate::state::Snapshot;\nuse crate::{firewall, identity, call};\nuse super::exchange::Exchange;");
    accepts("server.rs", "use crate::{admin, proxy::Gateway, reload, state::Live};");
    accepts("cli.rs", "use crate::{emulator::Emulator, demo::Demo, server, config};");
    accepts("demo.rs", "use crate::{emulator::Emulator, server::Running, config};");
    refuses("demo.rs", "use crate::cli::Arguments;", "`demo` may not know `cli`");
    accepts("main.rs", "fn main() -> std::process::ExitCode { tollgate::cli::main() }");
    refuses("domain/call.rs", "use crate::config::Config;", "`domain` may not know `config`");
    refuses("config/mod.rs", "use crate::limits::Limits;", "`config` may not know `limits`");
    refuses("limits/mod.rs", "use crate::state::Live;", "`limits` may not know `state`");
    refuses("limits/mod.rs", "use crate::proxy::Exchange;", "`limits` may not know `proxy`");
    refuses("state.rs", "use crate::proxy::Exchange;", "`state` may not know `proxy`");
    refuses("proxy/mod.rs", "use crate::server::run;", "`proxy` may not know `server`");
    refuses("server.rs", "use crate::cli::Arguments;", "`server` may not know `cli`");
    refuses("admin/mod.rs", "use crate::server::Server;", "`admin` may not know `server`");
}

#[test]
fn the_admin_listener_reads_the_record_and_the_state() {
    accepts("admin/mod.rs", "use crate::{config::admin::Admin, record::Metrics, state::Live};");
    refuses("admin/mod.rs", "use crate::limits::Limits;", "no other room");
    refuses("admin/mod.rs", "use crate::proxy::Gateway;", "not the corridor");
}

#[test]
fn the_emulator_shares_nothing_with_the_gateway() {
    accepts("emulator/signature.rs", "use super::answer;\nuse crate::domain::Secret;");
    refuses("emulator/signature.rs", "use crate::upstreams::sign;", "the emulator imports `domain` at most");
    refuses("server.rs", "use crate::emulator::Emulator;", "only the command line starts the emulator");
    refuses("proxy/mod.rs", "use crate::emulator::Emulator;", "only the command line starts the emulator");
}

#[test]
fn pingora_stays_where_it_belongs() {
    accepts("proxy/mod.rs", "use pingora_proxy::{ProxyHttp, Session};\nuse pingora::prelude::*;\nuse pingora_core::Error;");
    accepts("listeners/mod.rs", "use pingora::listeners::TlsAccept;");
    accepts("server.rs", "use pingora_core::server::Server;");
    accepts("firewall/flood.rs", "use pingora_limits::rate::Rate;");
    for (path, text, expected) in [
        ("server.rs", "use pingora_proxy::http_proxy_service;", "only `proxy` knows Pingora's proxy API"),
        ("server.rs", "use pingora::proxy::http_proxy_service;", "only `proxy` knows Pingora's proxy API"),
        ("server.rs", "use pingora::{server::Server, proxy::ProxyHttp};", "`pingora::proxy::ProxyHttp`"),
        ("server.rs", "use pingora::prelude::*;", "only `proxy` knows Pingora's proxy API"),
        ("server.rs", "use pingora as p;", "only `proxy` knows Pingora's proxy API"),
        ("admin/mod.rs", "extern crate pingora_proxy;", "only `proxy` knows Pingora's proxy API"),
        ("identity/mod.rs", "fn f(h: &pingora_http::RequestHeader) {}", "Pingora is known to"),
        ("state.rs", "fn f(h: &::pingora::http::RequestHeader) {}", "Pingora is known to"),
        ("limits/mod.rs", "use pingora_limits::rate::Rate;", "for `firewall` alone"),
    ] {
        refuses(path, text, expected);
    }
}

#[test]
fn the_crate_as_a_whole_is_not_to_be_imported() {
    refuses("limits/mod.rs", "use crate::*;", "not the whole crate");
    refuses("limits/mod.rs", "use crate as root;", "not the whole crate");
    refuses("limits/mod.rs", "use crate::{self as root};", "not the whole crate");
    refuses("limits/mod.rs", "use super::*;", "not the whole crate");
    refuses("limits/mod.rs", "use crate::VERSION;", "`VERSION` stands in no layer");
}

#[test]
fn a_module_without_a_place_is_told() {
    refuses("helpers.rs", "", "it stands in no layer");
    refuses("bin/other.rs", "", "it stands in no layer");
}

#[test]
fn comments_and_literals_are_not_imports() {
    accepts(
        "limits/mod.rs",
        r##"//! See crate::identity::Verifier.
        /* use crate::record::Line; /* and */ use crate::routes::Plan; */
        const A: &str = "crate::identity::X \" crate::identity::Y";
        const B: &str = r#"use crate::routes::Plan; " crate::x::y"#;
        const C: (char, char, u8) = ('"', '\'', b'"');
        fn f<'a>(x: &'a str) -> impl Sized + use<'a> { x }
        "##,
    );
    refuses("limits/mod.rs", "const C: char = '\"';\nuse crate::record::Line;\nconst D: char = '\"';", "src/limits/mod.rs:2: ");
    refuses("limits/mod.rs", "const C: &str = r#\"a\"b\"#;\nfn f<'a>() { crate::record::x() }", "src/limits/mod.rs:2: ");
    refuses("limits/mod.rs", "/* a /* b */ c */ use crate::record::Line;", "crate::record::Line");
}

#[test]
fn tests_may_import_more_and_nothing_after_them_is_missed() {
    accepts(
        "limits/mod.rs",
        "#[cfg(test)]\nmod tests {\n use super::*;\n use crate::identity::X;\n fn f() { if true { crate::routes::y() } }\n}",
    );
    accepts("limits/mod.rs", "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[allow(x)]\npub(crate) use crate::identity::X;");
    accepts("limits/tests.rs", "use crate::identity::X;");
    accepts("limits/fixture.rs", "//! For tests.\n#![cfg(test)]\nuse crate::identity::X;");
    refuses("limits/mod.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::identity::X;", "src/limits/mod.rs:3: ");
    refuses("limits/mod.rs", "#[cfg(test)] use crate::routes::X; use crate::identity::X;", "crate::identity::X");
    refuses("limits/mod.rs", "struct S { #[cfg(test)] a: u8, b: crate::identity::X }", "crate::identity::X");
    refuses("limits/mod.rs", "mod tests;", "`mod tests;` stands under #[cfg(test)]");
    refuses("limits/mod.rs", "#[cfg(not(test))]\nuse crate::identity::X;", "crate::identity::X");
}

#[test]
fn modules_within_a_file_count_for_super() {
    accepts("limits/mod.rs", "mod inner { use super::Bucket; use super::super::limits::Key; }");
    refuses("limits/mod.rs", "mod inner { use super::super::identity::X; }", "`crate::identity::X`");
    refuses("limits/mod.rs", "mod inner { fn f() {} }\nuse super::identity::X;", "`crate::identity::X`");
}

#[test]
fn a_file_ends_at_five_hundred_lines() {
    accepts("limits/mod.rs", &"//\n".repeat(500));
    refuses("limits/mod.rs", &"//\n".repeat(501), "src/limits/mod.rs:501: 501 lines");
    refuses("limits/tests.rs", &"//\n".repeat(501), "501 lines");
}

#[test]
fn a_section_of_the_configuration_has_its_room() {
    let section = |room: &str| faults(&[source("config/mod.rs", ""), source("config/limits.rs", ""), source(room, "")]);
    assert!(section("limits/mod.rs").is_empty());
    assert!(section("limits.rs").is_empty());
    let said: Vec<_> = section("routes/mod.rs").iter().map(ToString::to_string).collect();
    assert_eq!(said, ["src/config/limits.rs:1: `limits`: a key of gateway.yaml has the name of its room, and there is no such room"]);
}
