//! Which requests are from another site's page in an operator's browser: those get nothing. And which are from a browser at all: those change nothing.
//!
//! A browser lets a page send requests anywhere and read only what its own site answers. Two ways around that matter here. What another site's page
//! requests outright, the browser says in `Sec-Fetch-Site` (W3C Fetch Metadata). And a site may have its own name lead to this machine (DNS rebinding),
//! so that the browser takes the gateway for that site: then `Host` is a name that no operator would use for a loopback address.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

/// Why a request for figures is refused; none where it is in order. `address` is where the listener was told to listen: on another address than a
/// loopback one it may have any name.
pub(super) fn foreign(request: &Parts, address: SocketAddr) -> Option<String> {
    if request.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Some("a page of another site asked for this; open it by itself".to_owned());
    }
    // HTTP/2 has it in the target. A request without any is no browser's.
    let authority = request.uri.authority().map(Authority::as_str);
    let host = request.headers.get(HOST).map(|host| host.to_str().unwrap_or_default()).or(authority)?;
    if !address.ip().is_loopback() || is_this_machine(host) {
        return None;
    }
    Some(format!("this listens on {address} for this machine alone, and knows no `{host}`: ask for `localhost` or the address"))
}

/// Why a request may not change anything, for a browser made it; none where none did. A browser names the origin of the page in every request but GET and
/// HEAD (WHATWG Fetch, section 3.2), whatever page it is; and where it is only told by `Sec-Fetch-Site`, that page may be of another port of this machine.
pub(super) fn browser(headers: &HeaderMap) -> Option<String> {
    let is_browsers = headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site");
    is_browsers.then(|| "no page in a browser may change anything here: use the command line, or another client".to_owned())
}

/// Whether a `Host` is `localhost`, a name below it (RFC 6761, section 6.3), or an address: only names can be led elsewhere.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_could_lead_elsewhere_are_foreign() {
        for own in [
            "localhost",
            "LOCALHOST:9090",
            "localhost.:9090",
            "gateway.localhost",
            "127.0.0.1",
            "127.0.0.1:9090",
            "[::1]:9090",
            "[::1]",
            "10.0.0.7:1",
        ] {
            assert!(is_this_machine(own), "{own}");
        }
        for foreign in [
            "",
            "example.com",
            "example.com:9090",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "[example.com]",
            "notlocalhost",
            "::1",
        ] {
            assert!(!is_this_machine(foreign), "{foreign}");
        }
    }
}
