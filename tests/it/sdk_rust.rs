//! AWS's own SDK for Rust, stock, through the gateway, to the emulator.

use std::time::{Duration, SystemTime};

use aws_sdk_bedrockruntime::config::retry::RetryConfig;
use aws_sdk_bedrockruntime::config::{BehaviorVersion, Builder, Credentials, Region, SharedHttpClient, Token};
use aws_sdk_bedrockruntime::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_bedrockruntime::operation::RequestId;
use aws_sdk_bedrockruntime::operation::converse::builders::ConverseFluentBuilder;
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamOutput as Streamed;
use aws_sdk_bedrockruntime::primitives::Blob;
use aws_sdk_bedrockruntime::types::error::ConverseStreamOutputError;
use aws_sdk_bedrockruntime::types::{ContentBlock, ContentBlockDelta, ConversationRole, ConverseStreamOutput, Message, ResponseStream};
use aws_sdk_bedrockruntime::{Client, Config};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde_json::{Value, json};
use tollgate::emulator::Outcome;

use crate::client::PATIENCE;
use crate::world::{World, start_for_sdks, world};

const HAIKU: &str = "anthropic.claude-3-haiku-20240307-v1:0";
const PROFILE: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl";

fn config(url: &str) -> Builder {
    Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1")).endpoint_url(url)
}

/// A client with a bearer token, as `AWS_BEARER_TOKEN_BEDROCK` makes one.
fn with_token(url: &str, token: &str) -> Builder {
    config(url).token_provider(Token::new(token, None)).auth_scheme_preference(["httpBearerAuth".into()])
}

fn plain(world: &World) -> Client {
    Client::from_conf(with_token(&world.plain_url, &world.token).build())
}

fn https(world: &World) -> SharedHttpClient {
    let roots = TrustStore::empty().with_pem_certificate(world.ca_pem.as_bytes());
    let context = TlsContext::builder().with_trust_store(roots).build().unwrap();
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context).build_https()
}

fn tls(world: &World) -> Client {
    Client::from_conf(with_token(&world.tls_url, &world.token).http_client(https(world)).build())
}

fn says(text: &str) -> Message {
    Message::builder().role(ConversationRole::User).content(ContentBlock::Text(text.to_owned())).build().unwrap()
}

fn converse(client: &Client, model: &str) -> ConverseFluentBuilder {
    client.converse().model_id(model).messages(says("one two"))
}

async fn converse_stream(client: &Client, model: &str) -> Streamed {
    client
        .converse_stream()
        .model_id(model)
        .messages(says("one two"))
        .send()
        .await
        .unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)))
}

/// A model id that asks the emulator for a fault.
fn model(fault: &str) -> String {
    format!("anthropic.claude-emulator.{fault}:0")
}

#[tokio::test(flavor = "multi_thread")]
async fn converse_is_answered_by_model_and_by_inference_profile() {
    let world = world("").await;
    for client in [plain(&world), tls(&world)] {
        for model in [HAIKU, PROFILE] {
            let answer = converse(&client, model).send().await.unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)));
            let message = answer.output().unwrap().as_message().unwrap();
            assert_eq!(message.content()[0].as_text().unwrap(), "echo: one two");
            assert_eq!(answer.usage().map(|usage| (usage.input_tokens(), usage.output_tokens())), Some((2, 3)));
            assert!(answer.request_id().is_some());
        }
    }
    let seen = world.emulator.requests();
    assert!(seen[1].path.contains("application-inference-profile"), "{}", seen[1].path);
    assert!(seen.iter().all(|seen| seen.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_client_passes_with_its_token_in_a_header_of_its_own() {
    let world = start_for_sdks().await;
    let signed = |url: &str| Client::from_conf(config(url).credentials_provider(Credentials::for_tests()).build());
    let token = world.token.clone();
    let with_header = converse(&signed(&world.plain_url), HAIKU).customize().mutate_request(move |request| {
        request.headers_mut().insert("x-tollgate-token", token.clone());
    });
    assert!(with_header.send().await.is_ok());
    // To a gateway that asks nobody, its signature means nothing and does no harm.
    assert!(converse(&signed(&world.anonymous_url), HAIKU).send().await.is_ok());
    let stranger = converse(&signed(&world.plain_url), HAIKU).send().await.unwrap_err().into_service_error();
    assert_eq!(stranger.code(), Some("UnrecognizedClientException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_an_issued_credential_signs_its_way_in() {
    let world = start_for_sdks().await;
    let issued = |secret: &str| Credentials::new(world.access_key_id.clone(), secret, None, None, "test");
    let [plain, tls] = world.issued_urls();
    for config in [config(&plain), config(&tls).http_client(https(&world)), config(&format!("{plain}/bedrock-runtime"))] {
        let client = Client::from_conf(config.credentials_provider(issued(&world.secret_access_key)).build());
        for model in [HAIKU, PROFILE] {
            let answer = converse(&client, model).send().await.unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)));
            assert_eq!(answer.usage().map(|usage| (usage.input_tokens(), usage.output_tokens())), Some((2, 3)));
        }
        assert!(converse_stream(&client, HAIKU).await.stream.recv().await.is_ok());
    }
    let refused = |credentials| {
        let client = Client::from_conf(config(&plain).credentials_provider(credentials).build());
        async move { converse(&client, HAIKU).send().await.unwrap_err().into_service_error().code().map(str::to_owned) }
    };
    assert_eq!(refused(issued("another")).await.as_deref(), Some("InvalidSignatureException"));
    assert_eq!(refused(Credentials::for_tests()).await.as_deref(), Some("UnrecognizedClientException"));
    let key = Client::from_conf(with_token(&plain, &world.api_key).build());
    assert!(converse(&key, HAIKU).send().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_event_by_event() {
    let world = world("").await;
    for client in [plain(&world), tls(&world)] {
        let mut stream = converse_stream(&client, &model("gated")).await.stream;
        let (mut text, mut kinds) = (String::new(), Vec::new());
        loop {
            // The next is sent only now: each is here before the next.
            world.emulator.release(1);
            let Some(event) = tokio::time::timeout(PATIENCE, stream.recv()).await.expect("an event in 30 s").unwrap() else { break };
            kinds.push(match event {
                ConverseStreamOutput::MessageStart(_) => "start",
                ConverseStreamOutput::ContentBlockDelta(delta) => {
                    if let Some(ContentBlockDelta::Text(piece)) = delta.delta() {
                        text.push_str(piece);
                    }
                    "delta"
                }
                ConverseStreamOutput::ContentBlockStop(_) => "block",
                ConverseStreamOutput::MessageStop(_) => "stop",
                ConverseStreamOutput::Metadata(metadata) => {
                    assert_eq!(metadata.usage().map(|usage| (usage.input_tokens(), usage.output_tokens())), Some((2, 3)));
                    "metadata"
                }
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(text, "echo: one two");
        assert_eq!(kinds, ["start", "delta", "delta", "delta", "block", "stop", "metadata"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invoke_model_is_answered_whole_and_as_a_stream() {
    let world = world("").await;
    let body =
        json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{ "role": "user", "content": "one two" }] });
    let body = Blob::new(body.to_string());
    for client in [plain(&world), tls(&world)] {
        for model in [HAIKU, PROFILE] {
            let answer = client.invoke_model().model_id(model).content_type("application/json").body(body.clone()).send().await.unwrap();
            let answer: Value = serde_json::from_slice(answer.body().as_ref()).unwrap();
            assert!(answer.to_string().contains("echo:"), "{answer}");
        }
        let request = client.invoke_model_with_response_stream().model_id(HAIKU).content_type("application/json").body(body.clone());
        let mut stream = request.send().await.unwrap().body;
        let mut last = Value::Null;
        while let Some(event) = stream.recv().await.unwrap() {
            let ResponseStream::Chunk(chunk) = event else { panic!("{event:?}") };
            last = serde_json::from_slice(chunk.bytes().unwrap().as_ref()).unwrap();
        }
        assert_eq!(last["amazon-bedrock-invocationMetrics"]["outputTokenCount"], 3, "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_raised_as_the_sdks_own_exceptions() {
    let world = start_for_sdks().await;
    let client = plain(&world);
    // AWS's own, passed on.
    let error = converse(&client, "nonexistent").send().await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception() && error.meta().message().unwrap().contains("nonexistent"), "{error:?}");
    let error = client.converse().model_id(HAIKU).send().await.unwrap_err().into_service_error();
    assert!(error.is_validation_exception(), "{error:?}");
    for (fault, is) in [("424", "ModelErrorException"), ("403", "AccessDeniedException"), ("408", "ModelTimeoutException")] {
        let error = converse(&client, &model(fault)).send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some(is));
        assert!(error.is_model_error_exception() || error.is_access_denied_exception() || error.is_model_timeout_exception());
    }
    // The gateway's.
    let unretried = |token: &str| Client::from_conf(with_token(&world.plain_url, token).retry_config(RetryConfig::disabled()).build());
    let limited = unretried(&world.limited_token);
    let error = loop {
        if let Err(error) = converse(&limited, HAIKU).send().await {
            break error.into_service_error();
        }
    };
    assert!(error.is_throttling_exception(), "{error:?}");
    assert!(error.meta().message().unwrap().contains("`rps`"), "{error:?}");
    assert!(error.request_id().is_some());
    let error = converse(&unretried(&world.expired_token), HAIKU).send().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("UnrecognizedClientException"));
    let error = converse(&unretried(&world.token), &model("close")).send().await.unwrap_err().into_service_error();
    assert!(error.is_service_unavailable_exception(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_inside_a_stream_is_raised_as_its_type_and_a_break_as_a_failure() {
    let world = world("").await;
    for client in [plain(&world), tls(&world)] {
        let mut stream = converse_stream(&client, &model("exception-modelStreamErrorException-2")).await.stream;
        for _ in 0..2 {
            stream.recv().await.unwrap().unwrap();
        }
        let error = stream.recv().await.unwrap_err().into_service_error();
        assert!(matches!(error, ConverseStreamOutputError::ModelStreamErrorException(_)), "{error:?}");

        for fault in ["cut-mid-frame", "close-between-frames"] {
            let mut stream = converse_stream(&client, &model(fault)).await.stream;
            let broken = loop {
                match stream.recv().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{fault}: a broken stream passed for a whole one"),
                    Err(error) => break error,
                }
            };
            assert!(broken.as_service_error().is_none(), "{broken:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_limit_ends_raises_a_throttling_exception() {
    let world = world("limits: [{ name: brevity, count: tokens, quota: 40/day, per: [model], reserve: 1, cut: true }]").await;
    for (at, client) in [plain(&world), tls(&world)].iter().enumerate() {
        let mut stream = converse_stream(client, &model(&format!("words-30{at}"))).await.stream;
        let mut events = 0;
        let error = loop {
            match stream.recv().await {
                Ok(Some(_)) => events += 1,
                Ok(None) => panic!("a stream that was cut passed for a whole one"),
                Err(error) => break error.into_service_error(),
            }
        };
        assert!(matches!(error, ConverseStreamOutputError::ThrottlingException(_)), "{error:?}");
        assert!(error.meta().message().unwrap().contains("`brevity`"), "{error:?}");
        assert!((20..=40).contains(&events), "{events}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_retries_what_it_should_and_the_gateway_adds_nothing() {
    let world = world("").await;
    for (fault, attempts, answered) in
        [("503-twice", 3, true), ("429-twice", 3, true), ("500-5x", 3, false), ("429-5x", 3, false), ("424", 1, false)]
    {
        let before = world.emulator.requests().len();
        let client = Client::from_conf(with_token(&world.plain_url, &world.token).build());
        assert_eq!(converse(&client, &model(fault)).send().await.is_ok(), answered, "{fault}");
        let seen = world.emulator.requests();
        assert_eq!(seen.len() - before, attempts, "{fault}");
        // One invocation, told as such at every attempt.
        let ids: Vec<_> = seen[before..].iter().map(|seen| seen.header("amz-sdk-invocation-id").unwrap()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        assert!(seen.last().unwrap().header("amz-sdk-request").unwrap().contains(&format!("attempt={attempts}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_held_back_by_a_limit_waits_as_told_and_passes() {
    let world = start_for_sdks().await;
    let token = world.issuer.token("limited", "lotte", SystemTime::now() + Duration::from_mins(1)).unwrap();
    let client = Client::from_conf(with_token(&world.plain_url, &token).build());
    let before = world.emulator.requests().len();
    for _ in 0..2 {
        assert!(converse(&client, HAIKU).send().await.is_ok());
    }
    assert_eq!(world.emulator.requests().len() - before, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_ends_the_upstream_call() {
    let world = world("").await;
    for client in [plain(&world), tls(&world)] {
        let mut stream = converse_stream(&client, &model("gated")).await.stream;
        world.emulator.release(1);
        stream.recv().await.unwrap().unwrap();
        drop(stream);
        let left = world.emulator.requests_until(|all| all.last().is_some_and(|last| last.outcome == Outcome::PeerLeft));
        tokio::time::timeout(PATIENCE, left).await.expect("the call upstream ended within 30 s");
    }
}
