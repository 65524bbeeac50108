use super::*;

#[tokio::test]
async fn a_signed_converse_call_is_echoed_with_its_usage() {
    let emulator = emulator().await;
    let answer = ask(&emulator, "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", "", CONVERSE).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["output"]["message"]["content"][0]["text"], "echo: one two three");
    assert_eq!(body["usage"]["inputTokens"], 3);
    assert_eq!(body["usage"]["outputTokens"], 4);
    let billed = emulator.bill()["anthropic.claude-3-haiku-20240307-v1:0"];
    assert_eq!(billed, Billed { calls: 1, usage: Usage { input: 3, output: 4, ..Usage::default() } });
}

/// The data of the server-sent events in a body.
pub(super) fn data(answer: &Answered) -> Vec<serde_json::Value> {
    let body = std::str::from_utf8(&answer.body).unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn every_family_puts_its_usage_where_that_family_puts_it() {
    let emulator = emulator().await;
    let messages = r#""messages":[{"role":"user","content":[{"text":"one two"}]}]"#;
    let prompt = r#"{"prompt":"one two"}"#;
    for (model, body, text, usage) in [
        ("amazon.nova-lite-v1:0", format!("{{{messages}}}"), "/output/message/content/0/text", Some("/usage/outputTokens")),
        ("amazon.titan-text-express-v1", r#"{"inputText":"one two"}"#.to_owned(), "/results/0/outputText", Some("/results/0/tokenCount")),
        ("meta.llama3-8b-instruct-v1:0", prompt.to_owned(), "/generation", Some("/generation_token_count")),
        ("mistral.mistral-7b-instruct-v0:2", prompt.to_owned(), "/outputs/0/text", None),
        ("cohere.command-text-v14", prompt.to_owned(), "/generations/0/text", None),
        ("cohere.command-r-v1:0", r#"{"message":"one two"}"#.to_owned(), "/text", None),
        ("openai.gpt-oss-120b-1:0", format!("{{{messages}}}"), "/choices/0/message/content", Some("/usage/completion_tokens")),
    ] {
        let answer = ask(&emulator, &format!("/model/{model}/invoke"), "", &body).await.unwrap();
        let value = answer.json();
        assert_eq!(value.pointer(text).unwrap_or_else(|| panic!("{model}: {value}")), "echo: one two");
        assert_eq!(usage.map(|usage| value.pointer(usage).unwrap().as_u64()), usage.map(|_| Some(3)), "{model}: {value}");
        assert!(answer.head.contains("x-amzn-bedrock-input-token-count: 2\r\nx-amzn-bedrock-output-token-count: 3\r\n"), "{}", answer.head);

        let stream = ask(&emulator, &format!("/model/{model}/invoke-with-response-stream"), "", &body).await.unwrap();
        assert!(stream.head.contains("content-type: application/vnd.amazon.eventstream\r\n"), "{}", stream.head);
        assert!(stream.head.contains("x-amzn-bedrock-content-type: application/json\r\n"), "{}", stream.head);
    }
    for (model, body) in [
        ("amazon.titan-embed-text-v2:0", r#"{"inputText":"one two","dimensions":256}"#),
        ("cohere.embed-english-v3", r#"{"texts":["one two"]}"#),
    ] {
        let answer = ask(&emulator, &format!("/model/{model}/invoke"), "", body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("input-token-count: 2\r\n") && !answer.head.contains("output-token-count"), "{}", answer.head);
    }
}

#[tokio::test]
async fn openai_shapes_are_answered_whole_and_streamed() {
    let emulator = emulator().await;
    let chat = r#"{"model":"openai.gpt-oss-120b","messages":[{"role":"user","content":"one two"}]}"#;
    for path in ["/openai/v1/chat/completions", "/v1/chat/completions"] {
        let answer = ask(&emulator, path, "", chat).await.unwrap().json();
        assert_eq!(answer["choices"][0]["message"]["content"], "echo: one two");
        assert_eq!(
            answer["usage"],
            serde_json::json!({"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}})
        );
    }
    let streamed = chat.replace("\"model\"", "\"stream\":true,\"model\"");
    let chunks = ask(&emulator, "/v1/chat/completions", "", &streamed).await.unwrap();
    assert!(chunks.body.ends_with(b"data: [DONE]\n\n"));
    assert!(data(&chunks).iter().all(|chunk| chunk.get("usage").is_none()));
    let counted = streamed.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
    let chunks = data(&ask(&emulator, "/v1/chat/completions", "", &counted).await.unwrap());
    let text: String = chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str()).collect();
    assert_eq!((text.as_str(), &chunks.last().unwrap()["usage"]["completion_tokens"]), ("echo: one two", &serde_json::json!(3)));

    let asked = r#"{"model":"openai.gpt-oss-120b","input":"one two","max_output_tokens":2}"#;
    let answer = ask(&emulator, "/v1/responses", "", asked).await.unwrap().json();
    assert_eq!(
        (&answer["output"][0]["content"][0]["text"], &answer["status"]),
        (&serde_json::json!("echo: one"), &serde_json::json!("incomplete"))
    );
    let events = data(&ask(&emulator, "/openai/v1/responses", "", &asked.replace("\"input\"", "\"stream\":true,\"input\"")).await.unwrap());
    assert_eq!(events.first().unwrap()["type"], "response.created");
    assert_eq!(events.last().unwrap()["response"]["usage"]["output_tokens"], 2);
    let error = ask(&emulator, "/v1/chat/completions", "", &chat.replace("openai.gpt", "nonexistent")).await.unwrap();
    assert_eq!((error.status, error.json()["error"]["type"].as_str().unwrap()), (404, "ResourceNotFoundException"));
}

#[tokio::test]
async fn anthropics_messages_are_answered_whole_and_streamed_and_counted() {
    let emulator = emulator().await;
    let asked = r#"{"model":"claude","max_tokens":9,"system":"be brief","messages":[{"role":"user","content":[{"type":"text","text":"one two"}]}]}"#;
    let answer = ask(&emulator, "/anthropic/v1/messages", "", asked).await.unwrap().json();
    assert_eq!(
        (&answer["content"][0]["text"], &answer["usage"]["input_tokens"]),
        (&serde_json::json!("echo: one two"), &serde_json::json!(4))
    );
    let stream = ask(&emulator, "/anthropic/v1/messages", "", &asked.replace("\"system\"", "\"stream\":true,\"system\"")).await.unwrap();
    assert!(stream.body.starts_with(b"event: message_start\ndata: {"));
    let events = data(&stream);
    assert_eq!(
        (&events[0]["message"]["usage"]["input_tokens"], &events[events.len() - 2]["usage"]["output_tokens"]),
        (&serde_json::json!(4), &serde_json::json!(3))
    );
    let count = ask(&emulator, "/anthropic/v1/messages/count_tokens", "", asked).await.unwrap().json();
    assert_eq!(count, serde_json::json!({"input_tokens": 4}));
}

#[tokio::test]
async fn the_control_plane_lists_what_it_then_describes() {
    let emulator = emulator().await;
    let get = async |target: &str| Peer::to(&emulator).await.ask(&signed("GET", target, &[], "")).await.unwrap();
    let models = get("/foundation-models").await.json();
    let id = models["modelSummaries"][0]["modelId"].as_str().unwrap();
    assert_eq!(get(&format!("/foundation-models/{id}")).await.json()["modelDetails"], models["modelSummaries"][0]);
    let profiles = get("/inference-profiles?type=SYSTEM_DEFINED").await.json();
    let profile = &profiles["inferenceProfileSummaries"][0];
    for name in ["inferenceProfileId", "inferenceProfileArn"] {
        let name = profile[name].as_str().unwrap().replace(':', "%3A").replace('/', "%2F");
        assert_eq!(&get(&format!("/inference-profiles/{name}")).await.json(), profile);
    }
    assert_eq!(get("/foundation-models/unknown").await.status, 404);
    assert_eq!(get("/v1/models").await.json()["object"], "list");
}

#[tokio::test]
async fn an_unknown_operation_is_echoed() {
    let emulator = emulator().await;
    let echo = ask(&emulator, "/flows/k%2F1/aliases?a=1", "", "{}").await.unwrap().json();
    assert_eq!((&echo["method"], &echo["path"], &echo["query"]), (&"POST".into(), &"/flows/k%2F1/aliases".into(), &"a=1".into()));
    assert_eq!((&echo["bodyLength"], echo["headers"][0][0].as_str().unwrap()), (&2.into(), "host"));
}

#[tokio::test]
async fn a_malformed_body_is_refused_as_bedrock_refuses_it() {
    let emulator = emulator().await;
    let deep = format!("{{\"messages\":{}{}}}", "[".repeat(100), "]".repeat(100));
    for (target, body, status) in [
        ("/model/x/converse", "{", 400),
        ("/model/x/converse", "[]", 400),
        ("/model/x/converse", "{}", 400),
        ("/model/x/converse", "\u{0}", 400),
        ("/model/x/converse", deep.as_str(), 200),
        ("/model/x/count-tokens", r#"{"input":{"invokeModel":{"body":"!"}}}"#, 400),
        ("/model/anthropic.x/invoke", r#"{"messages":[{"content":"x"}]}"#, 400),
        ("/model/nonexistent/converse", CONVERSE, 404),
    ] {
        let answer = ask(&emulator, target, "", body).await.unwrap();
        assert_eq!(answer.status, status, "{target} {body}");
    }
}
