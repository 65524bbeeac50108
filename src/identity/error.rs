//! What can be wrong with the configured identities: told to the operator when a configuration is loaded.

use std::io;
use std::path::PathBuf;

use super::fetch::CaError;
use super::issued::KeysError;

/// Why no [`Identity`](super::Identity) can be built.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody could call.
    #[error("`identity` is empty: add a `jwt` method, or `anonymous` to switch authorization off")]
    NoMethod,
    /// It would never be asked.
    #[error("`anonymous` lets everyone in, so no method can follow it: move it to the end of `identity`")]
    AfterAnonymous,
    /// Which of the two judges a token would be a matter of chance.
    #[error("issuer `{issuer}` is configured twice: list all its audiences and algorithms in one `jwt` method")]
    IssuerTwice {
        /// The `iss` in question.
        issuer: String,
    },
    /// The authorizer's certificate could not be checked.
    #[error("`ca` of `external`, `{}`: {cause}", file.display())]
    AuthorizerCa {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: CaError,
    },
    /// The keys that the gateway issued can't be had.
    #[error("`{}` {cause}", file.display())]
    Keys {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: KeysError,
    },
    /// The issuer's keys can't be had.
    #[error("`jwks_file` `{}`: {cause}", file.display())]
    KeySet {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: KeySetError,
    },
    /// The secret that an issuer shares can't be had.
    #[error("`secret_file` `{}`: {cause}", file.display())]
    Secret {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: KeySetError,
    },
    /// The roots that a provider's certificate must chain to can't be had.
    #[error("`ca` `{}`: {cause}", file.display())]
    Ca {
        /// The file as it was configured.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: super::fetch::CaError,
    },
}

/// Why a key set (RFC 7517, section 5) is refused. `key` counts from 0, as the set's own array does.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// More than [`MAX_FILE`](super::keys::MAX_FILE) bytes.
    #[error("is longer than {} bytes", super::keys::MAX_FILE)]
    TooLong,
    /// No JSON, or no object with an array `keys`.
    #[error("is no JSON Web Key Set, an object with an array `keys`: {0}")]
    Syntax(#[source] serde_json::Error),
    /// A key that must not lie about.
    #[error("`keys[{key}]` holds a private or symmetric key (`{member}`): publish only public keys, and replace this one")]
    PrivateKey {
        /// Its place.
        key: usize,
        /// The member that gives it away.
        member: &'static str,
    },
    /// A key of a known type that does not hold together.
    #[error("`keys[{key}]` is malformed: {what}")]
    Malformed {
        /// Its place.
        key: usize,
        /// What is wrong.
        what: String,
    },
    /// NIST SP 800-131A and RFC 7518, section 3.3: at least 2048 bits.
    #[error("`keys[{key}]` is an RSA key of {bits} bits: use one of 2048 to 8192")]
    RsaSize {
        /// Its place.
        key: usize,
        /// The length of its modulus.
        bits: usize,
    },
    /// RFC 7518, section 3.2: at least as long as the hash.
    #[error(
        "holds a secret of {bytes} bytes: {least} at least are needed for the longest of `algorithms`, as `openssl rand -base64 {least}` makes them"
    )]
    ShortSecret {
        /// Its length.
        bytes: usize,
        /// What it should be.
        least: usize,
    },
    /// Which of the two a token means would be a matter of chance.
    #[error("two keys have the `kid` `{kid}`: give each its own")]
    KidTwice {
        /// The name in question.
        kid: String,
    },
    /// Every token would be refused.
    #[error("none of its {keys} keys can verify {algorithms:?}: check each key's `kty`, `alg`, `use` and `key_ops` against `algorithms`")]
    NoUsableKey {
        /// How many keys there are.
        keys: usize,
        /// The algorithms that the issuer is allowed.
        algorithms: Vec<crate::config::identity::Algorithm>,
    },
}
