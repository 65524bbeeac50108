//! What a plain connection beyond the bound is told.
//!
//! Two system calls that can't wait and an end, in the task that accepts: whoever is turned away gets no task, no timer and no memory. Behind TLS even this
//! would take a handshake, the dearest thing that a stranger can ask for: there the connection is just closed.

use std::io::{Read, Write};

use tokio::net::TcpStream;

/// A whole answer: this connection carries no other.
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
Content-Type: application/json\r\n\
Content-Length: 186\r\n\
x-amzn-ErrorType: ServiceUnavailableException\r\n\
Retry-After: 1\r\n\
Connection: close\r\n\
\r\n\
{\"message\":\"the gateway has no room for another connection\",\"__type\":\"ServiceUnavailableException\",\
\"error\":{\"type\":\"ServiceUnavailableException\",\"code\":\"overloaded\",\"message\":\"no room\"}}";

/// Answers whatever `stream` asks with a 503, and closes it.
pub(super) fn politely(stream: TcpStream) {
    // Back from the reactor: a new connection's readiness is not known there yet. It stays non-blocking.
    let Ok(mut stream) = stream.into_std() else { return };
    // Closed on bytes that nobody read, it would be reset, and the answer might be lost. What comes later is on its own.
    let mut dropped = [0; 8 * 1024];
    drop(stream.read(&mut dropped));
    drop(stream.write(ANSWER));
    drop(stream.shutdown(std::net::Shutdown::Write));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says_and_is_what_clients_read() {
        let answer = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["__type"], "ServiceUnavailableException");
    }
}
