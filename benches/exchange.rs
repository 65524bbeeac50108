//! A whole governed request in process, over loopback: token known, one limit, hash, SigV4, 1.5 KB each way, keep-alive; the emulator answers canned.
//!
//! It shows the latency of one call, and of one event of a stream, at a time. CPU a request under load is measured from outside (docs/performance.md).
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench may fail loudly, and asks the clock"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::config::Config;
use tollgate::demo::{AUDIENCE, ISSUER, Issuer, SECRET_ACCESS_KEY};
use tollgate::domain::Clock;
use tollgate::emulator::{Emulator, Options};
use tollgate::server::Running;

fn exchange(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let issuer = Issuer::new().unwrap();
    std::fs::write(dir.join("jwks.json"), issuer.jwks().to_string()).unwrap();
    std::fs::write(dir.join("secret"), SECRET_ACCESS_KEY).unwrap();
    let emulator = runtime.block_on(Emulator::start(Options { quick: Some(1_300), ..Options::default() })).unwrap();
    let quick = emulator.address().to_string();
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]
admin: {{ address: '127.0.0.1:0' }}
identity: [jwt: {{ issuer: '{ISSUER}', audiences: [{AUDIENCE}], algorithms: [ES256], jwks_file: jwks.json, tenant: tenant }}]
limits: [{{ name: rpm, count: requests, rate: 1000000/second, burst: 1000000, per: [tenant] }}]
upstreams: {{ e: {{ region: us-east-1, endpoint: 'http://{quick}', credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }} }} }}
record: {{ access_log: {{ to: access.log, format: json }} }}"
    );
    let config = Config::parse(&text, &dir.join("gateway.yaml")).unwrap();
    let gateway = {
        let _inside = runtime.enter();
        Running::start(&config, Clock::System).unwrap()
    };
    let token = issuer.token("bench", "b", SystemTime::now() + Duration::from_hours(1)).unwrap();
    let body = format!(r#"{{"messages":[{{"role":"user","content":[{{"text":"{}"}}]}}]}}"#, "word ".repeat(280));
    let request = format!(
        "POST /model/amazon.nova-lite-v1:0/converse HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mirrored = format!("{text}\nroutes: [{{ name: all, to: [{{ upstream: e }}], mirror: {{ upstream: e, share: 100% }} }}]");
    let mirrored = Config::parse(&mirrored, &dir.join("gateway.yaml")).unwrap();
    let mirroring = {
        let _inside = runtime.enter();
        Running::start(&mirrored, Clock::System).unwrap()
    };
    let mut group = c.benchmark_group("one call at a time");
    for (name, address) in [
        ("through the gateway", gateway.listeners()[0]),
        ("through the gateway, each mirrored", mirroring.listeners()[0]),
        ("straight to the emulator", emulator.address()),
    ] {
        let mut stream = connect(address);
        group.bench_function(name, |b| b.iter(|| call(&mut stream, &request)));
    }
    group.finish();

    // An emulator that does not ask for signatures, so that the same bytes can be sent to both.
    let emulator = runtime.block_on(Emulator::start(Options { verify: false, strict: false, ..Options::default() })).unwrap();
    let text = text.replace(&quick, &emulator.address().to_string());
    let config = Config::parse(&text, &dir.join("gateway.yaml")).unwrap();
    let gateway = {
        let _inside = runtime.enter();
        Running::start(&config, Clock::System).unwrap()
    };
    let request = request
        .replace("/converse HTTP", "/converse-stream HTTP")
        .replace("Host: g\r\n", "Host: g\r\nx-emulator-fault: gated,words-1000000\r\n");
    let mut group = c.benchmark_group("one event of a stream");
    // One for each: a gate that two streams wait at lets either pass.
    let other = runtime.block_on(Emulator::start(Options { verify: false, strict: false, ..Options::default() })).unwrap();
    for (name, emulator, address) in
        [("through the gateway", &emulator, gateway.listeners()[0]), ("straight to the emulator", &other, other.address())]
    {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut buffer = [0; 8192];
        emulator.release(1);
        let mut head = Vec::new();
        while !head.windows(12).any(|window| window == b"messageStart") {
            let n = stream.read(&mut buffer).unwrap();
            head.extend_from_slice(&buffer[..n]);
        }
        group.bench_function(name, |b| {
            b.iter(|| {
                emulator.release(1);
                assert!(stream.read(&mut buffer).unwrap() > 0);
            });
        });
    }
    group.finish();
    drop(std::fs::remove_dir_all(&dir));
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request and reads its answer, which is shorter than the buffer and told by its length.
fn call(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut buffer = [0; 8192];
    let mut got = 0;
    loop {
        got += stream.read(&mut buffer[got..]).unwrap();
        let text = String::from_utf8_lossy(&buffer[..got]).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                return;
            }
        }
    }
}

criterion_group!(benches, exchange);
criterion_main!(benches);
