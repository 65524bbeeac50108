//! What clients and operators are told of where a caller stands.

use std::sync::Mutex;

use super::*;
use crate::config::limits::{Calendar, Every, Tier, Zone};
use crate::domain::{Glob, Grant, LimitWarning, QuotaChange};

const CAPACITY: u64 = 1_000;

fn quota(name: &str, count: Count, limit: u64) -> Rule {
    let calendar = Calendar { every: Every::Day, starts_on: 1, zone: Zone::UTC };
    Rule::new(name, count, Bound::Quota { limit, calendar })
}

fn asked(tokens: u64) -> Call {
    let asked = Asked { text_bytes: tokens * 3, max_tokens: Some(0), ..Asked::default() };
    Call { service: Service::BEDROCK_RUNTIME, path: "/".into(), query: "".into(), model: Some("m".into()), asked }
}

fn admit(limits: &Arc<Limits>, caller: &Principal, call: &Call) -> Result<Admission, Box<Refused>> {
    limits.admit(&Ask { principal: caller, call, route: "r", address: None, price: &|_| Cost::Nothing }, now(start()))
}

fn build(rules: &[Rule], grants: Vec<Grant>, observer: Arc<dyn Observer>) -> Arc<Limits> {
    let book = Grants::default();
    book.set(grants);
    Limits::build(rules, buckets(start()), Arc::new(book), observer)
}

#[test]
fn a_refusal_tells_of_the_tightest_rules_whichever_refused() {
    let busy = Rule::new("busy", Count::Concurrency, Bound::Max(1));
    let rules = [per_tenant(1, SECOND, 9), quota("daily", Count::Tokens, CAPACITY * 1_000), busy];
    let limits = build(&rules, Vec::new(), Arc::new(Nobody));
    let acme = caller("acme", None);
    let _first = admit(&limits, &acme, &asked(300)).unwrap();
    let refused = admit(&limits, &acme, &asked(300)).unwrap_err();
    assert_eq!(&*refused.rule, "busy");
    let left = |standing: &Option<Standing>| standing.as_ref().map(|standing| (standing.rule.to_string(), standing.remaining()));
    assert_eq!(left(&refused.rates.requests), Some(("rpm".to_owned(), 8)));
    assert_eq!(left(&refused.rates.tokens), Some(("daily".to_owned(), 700_000)));
}

#[test]
fn a_rule_in_shadow_is_told_to_no_client() {
    let shadow = Rule { shadow: true, ..quota("shadow", Count::Requests, 1) };
    let limits = build(&[per_tenant(1, SECOND, 9), shadow], Vec::new(), Arc::new(Nobody));
    let admission = admit(&limits, &caller("acme", None), &asked(1)).unwrap();
    assert_eq!(admission.rates().requests.as_ref().map(|standing| &*standing.rule), Some("rpm"));
}

#[test]
fn a_group_chooses_the_tier_of_what_is_told_and_rules_of_other_groups_are_left_out() {
    let tier = |group: &str, limit| Tier {
        group: Glob::new(group),
        bound: match quota("q", Count::Requests, limit).bound {
            Bound::Quota { calendar, .. } => Bound::Quota { limit, calendar },
            other => other,
        },
    };
    let mut per_group = quota("per-group", Count::Requests, 50);
    per_group.per = [Dimension::Group].into();
    let mut staff = quota("staff", Count::Requests, 7);
    staff.of.groups = vec![Glob::new("staff")];
    let rules = [Rule { tiers: vec![tier("gold", 100), tier("g*", 20)], ..quota("daily", Count::Requests, 10) }, per_group, staff];
    let limits = build(&rules, Vec::new(), Arc::new(Nobody));
    let told = |group: Option<&str>| -> Vec<(String, u64)> {
        let subject = Subject { tenant: Some("acme".into()), group: group.map(Into::into), ..Subject::default() };
        limits.standing(&subject, now(start())).into_iter().map(|standing| (standing.rule.to_string(), standing.limit)).collect()
    };
    let expected = |all: &[(&str, u64)]| all.iter().map(|(rule, limit)| ((*rule).to_owned(), *limit)).collect::<Vec<_>>();
    assert_eq!(told(None), expected(&[("daily", 10), ("staff", 7)]));
    assert_eq!(told(Some("gold")), expected(&[("daily", 100), ("per-group", 50)]));
    assert_eq!(told(Some("green")), expected(&[("daily", 20), ("per-group", 50)]));
    assert_eq!(told(Some("staff")), expected(&[("daily", 10), ("per-group", 50), ("staff", 7)]));
}

#[test]
fn what_one_user_was_granted_is_for_their_own_bucket_alone() {
    let mut own = quota("own", Count::Requests, 1);
    own.per = [Dimension::User].into();
    let until = SystemTime::UNIX_EPOCH + HOUR;
    let grant = |rule: &str| Grant {
        id: 1,
        rule: rule.into(),
        tenant: "acme".into(),
        user: Some("ann".into()),
        more: 5,
        until,
        made: SystemTime::UNIX_EPOCH,
        note: String::new(),
    };
    for (rule, times) in [(own, 6), (quota("shared", Count::Requests, 1), 1)] {
        let limits = build(std::slice::from_ref(&rule), vec![grant(&rule.name)], Arc::new(Nobody));
        let ann = caller("acme", Some("ann"));
        let mut made = 0;
        while let Ok(admission) = admit(&limits, &ann, &asked(1)) {
            admission.settle(None, now(start()));
            made += 1;
        }
        assert_eq!(made, times, "{}", rule.name);
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<u8>>);

impl Observer for Heard {
    fn quota(&self, _change: QuotaChange) {}

    fn warn(&self, warning: LimitWarning) {
        self.0.lock().unwrap().push(warning.percent);
    }
}

#[test]
fn calls_that_are_never_sent_warn_of_a_share_once_however_often_they_pass_it() {
    let heard = Arc::<Heard>::default();
    let rule = Rule { warn_at: vec![50, 75], ..quota("daily", Count::Requests, 4) };
    let limits = build(&[rule], Vec::new(), Arc::clone(&heard) as Arc<dyn Observer>);
    let acme = caller("acme", None);
    admit(&limits, &acme, &asked(1)).unwrap().settle(None, now(start()));
    for _ in 0..5 {
        drop(admit(&limits, &acme, &asked(1)).unwrap());
    }
    assert_eq!(*heard.0.lock().unwrap(), [50]);
    for _ in 0..3 {
        admit(&limits, &acme, &asked(1)).unwrap().settle(None, now(start()));
    }
    assert_eq!(*heard.0.lock().unwrap(), [50, 75]);
    // Another's warnings are their own.
    for _ in 0..2 {
        admit(&limits, &caller("umbrella", None), &asked(1)).unwrap().settle(None, now(start()));
    }
    assert_eq!(*heard.0.lock().unwrap(), [50, 75, 50]);
}
