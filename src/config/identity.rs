//! `identity`: who may call, and how they prove it. Tried in order; an empty list refuses to start.

use std::path::PathBuf;

/// One way to prove who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// A signed token.
    Jwt(Jwt),
    /// Nobody is asked.
    Anonymous(Anonymous),
}

/// Tokens of one issuer (RFC 7519, RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The `iss` that a token must carry, to the letter.
    pub issuer: String,
    /// A token's `aud` must name one of these, or its `client_id` must be one (Cognito access tokens have no `aud`). At least one.
    pub audiences: Vec<String>,
    /// The signature algorithms that are taken; at least one. Default `[RS256]`. `none` and HMAC can't be named.
    pub algorithms: Vec<Algorithm>,
    /// The key set (RFC 7517, section 5).
    pub jwks_file: PathBuf,
    /// The claim that names the tenant. A token without it is refused.
    pub tenant: ClaimPath,
    /// The claim that names the user. Default `sub`; a token without it has no user.
    pub user: ClaimPath,
}

/// A claim by name, looked for first as it is written (Cognito's `custom:tenant` or a URL), then as a dotted path into nested objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub String);

/// Signature algorithms by public key (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Authorization off: everyone is the same caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anonymous {
    /// The tenant that everyone is.
    pub tenant: String,
}
