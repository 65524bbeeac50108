//! Sessions without a network: who is asked for, who waits, and who has to go.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use super::session::Landing;
use super::sessions::Sessions;
use super::tags::{Tags, Who};
use super::{Keys, NoKeys};
use crate::config::upstreams::Attribute;
use crate::domain::{Method, Principal, Secret};

const NOON: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    NOON + Duration::from_secs(1_000_000 + seconds)
}

fn sessions(most: usize) -> Sessions {
    Sessions::with_room_for(most, "use1".into(), Tags::new(vec![("tenant".to_owned(), Attribute::Tenant)]))
}

fn who(sessions: &Sessions, tenant: &str) -> Who {
    sessions.tags().who(&Principal { tenant: tenant.into(), user: None, groups: Arc::from([]), method: Method::Jwt, key_id: None })
}

fn keys(expires: SystemTime) -> Keys {
    Keys { access_key_id: "ASIA".into(), secret_access_key: Secret::new("s".to_owned()), session_token: None, expires: Some(expires) }
}

/// Polls once.
fn once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Has STS answer whatever is wanted; how many that were.
fn answer(sessions: &Sessions, now: SystemTime, give: impl Fn() -> Result<Keys, NoKeys>) -> usize {
    std::iter::from_fn(|| sessions.next()).map(|session| Landing::of(session).land(give(), now)).count()
}

/// Has a session for `tenant`, used at `now` and lasting an hour.
async fn hold(sessions: &Sessions, tenant: &str, now: SystemTime) {
    let mut asking = pin!(sessions.keys(who(sessions, tenant), now));
    assert!(once(asking.as_mut()).is_pending());
    assert_eq!(answer(sessions, now, || Ok(keys(now + Duration::from_hours(1)))), 1);
    assert!(asking.await.is_ok());
}

#[tokio::test]
async fn whoever_gives_up_leaves_the_question_to_the_others() {
    let sessions = sessions(10);
    {
        let mut first = pin!(sessions.keys(who(&sessions, "acme"), at(0)));
        assert!(once(first.as_mut()).is_pending());
    }
    let mut second = pin!(sessions.keys(who(&sessions, "acme"), at(0)));
    assert!(once(second.as_mut()).is_pending());
    assert_eq!(answer(&sessions, at(0), || Ok(keys(at(3600)))), 1, "asked once, by one who left");
    assert!(second.await.is_ok());
    let mut third = pin!(sessions.keys(who(&sessions, "acme"), at(1)));
    assert!(matches!(once(third.as_mut()), Poll::Ready(Ok(_))), "without a wait");
}

#[tokio::test]
async fn a_question_that_is_lost_is_asked_again() {
    let sessions = sessions(10);
    let mut first = pin!(sessions.keys(who(&sessions, "acme"), at(0)));
    assert!(once(first.as_mut()).is_pending());
    drop(Landing::of(sessions.next().unwrap()));
    assert!(matches!(first.await, Err(NoKeys::Missing)));
    hold(&sessions, "acme", at(0)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_a_few_seconds() {
    let sessions = sessions(10);
    assert!(matches!(sessions.keys(who(&sessions, "acme"), at(0)).await, Err(NoKeys::Late)));
}

#[tokio::test]
async fn failures_are_remembered_for_ever_longer_and_forgotten_with_a_success() {
    let sessions = sessions(10);
    let refuse = || Err(NoKeys::Refused("no".into()));
    let mut now = at(0);
    for wait in [1, 2, 4, 8] {
        let mut asking = pin!(sessions.keys(who(&sessions, "acme"), now));
        assert!(once(asking.as_mut()).is_pending());
        assert_eq!(answer(&sessions, now, refuse), 1);
        assert!(matches!(asking.await, Err(NoKeys::Refused(_))));
        // A quarter of it is chance's.
        let early = now + Duration::from_secs(wait).mul_f64(0.74);
        assert!(matches!(sessions.keys(who(&sessions, "acme"), early).await, Err(NoKeys::Refused(_))));
        assert!(sessions.next().is_none());
        now += Duration::from_secs(wait);
    }
    hold(&sessions, "acme", now).await;
}

#[tokio::test]
async fn beyond_the_bound_the_longest_idle_go_and_those_in_use_stay() {
    let sessions = sessions(32);
    for n in 0..32 {
        hold(&sessions, &format!("t{n}"), at(n)).await;
    }
    // All were used within the last minute.
    assert!(matches!(sessions.keys(who(&sessions, "newcomer"), at(40)).await, Err(NoKeys::Full)));
    assert_eq!(sessions.len(), 32);
    // The first two have been idle for a minute.
    hold(&sessions, "newcomer", at(61)).await;
    assert_eq!(sessions.len(), 31, "a sixteenth goes at once");
    for (tenant, there) in [("t0", false), ("t1", false), ("t2", true), ("newcomer", true)] {
        let mut asking = pin!(sessions.keys(who(&sessions, tenant), at(62)));
        assert_eq!(once(asking.as_mut()).is_ready(), there, "{tenant}");
    }
}

#[tokio::test]
async fn a_session_that_is_being_fetched_never_goes() {
    let sessions = sessions(1);
    let mut first = pin!(sessions.keys(who(&sessions, "acme"), at(0)));
    assert!(once(first.as_mut()).is_pending());
    assert!(matches!(sessions.keys(who(&sessions, "other"), at(3600)).await, Err(NoKeys::Full)));
}

#[tokio::test]
async fn what_was_used_is_renewed_what_was_not_is_kept_until_it_expires() {
    let sessions = sessions(10);
    for tenant in ["used", "unused"] {
        hold(&sessions, tenant, at(0)).await;
    }
    assert!(sessions.keys(who(&sessions, "used"), at(10)).await.is_ok());
    sessions.sweep(at(3000));
    assert!(sessions.next().is_none(), "early is five minutes, and half as much of chance");
    sessions.sweep(at(3301));
    assert_eq!(answer(&sessions, at(3301), || Ok(keys(at(7000)))), 1);
    sessions.sweep(at(3599));
    assert_eq!((sessions.len(), answer(&sessions, at(3599), || Ok(keys(at(7000))))), (2, 0));
    sessions.sweep(at(3600));
    assert_eq!(sessions.len(), 1);
    assert!(sessions.keys(who(&sessions, "used"), at(3600)).await.is_ok());
}
