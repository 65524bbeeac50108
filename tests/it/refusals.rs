//! Refusals are answered as AWS answers.

use crate::client::{call, converse, post};
use crate::world::world;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_credential_is_refused_and_costs_the_upstream_nothing() {
    let world = world("").await;
    let answer = call(world.plain, "GET /inference-profiles HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("x-amzn-errortype"), Some("UnrecognizedClientException"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert!(answer.header("x-amzn-requestid").is_some());
    assert_eq!(answer.json()["__type"], "UnrecognizedClientException");
    assert_eq!(world.emulator.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_caller_is_answered() {
    let world = world("").await;
    let answer = call(world.plain, post("/model/amazon.nova-lite-v1:0/converse", &world.token, "", &converse("one two"))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["usage"]["inputTokens"], 2);
    assert_eq!(world.metric("tollgate_requests_total{service=\"bedrock-runtime\",status_class=\"2xx\"}"), 1.0);
}
