//! What issued keys look like.
//!
//! An API key is `tgk_`, 43 random letters and digits (256 bits) and six more that are the CRC-32 of all before them: a scanner for leaked
//! secrets knows one for certain, and a key that lost a character on the way is told from one that was revoked. An access key id is `TGAK` and
//! 16 characters as AWS's have them: public, a name.

use aws_lc_rs::rand;

const PREFIX: &str = "tgk_";
const RANDOM: usize = 43;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandom;

/// A new API key.
pub(super) fn api_key() -> Result<String, NoRandom> {
    let mut key = String::with_capacity(LENGTH);
    key.push_str(PREFIX);
    key.push_str(&random(RANDOM, BASE62)?);
    let checksum = checksum(&key);
    key.push_str(&checksum);
    Ok(key)
}

/// A new name for an API key.
pub(super) fn id() -> Result<String, NoRandom> {
    Ok(format!("key-{}", random(10, BASE32)?.to_ascii_lowercase()))
}

/// A new access key id.
pub(super) fn access_key_id() -> Result<String, NoRandom> {
    Ok(format!("TGAK{}", random(16, BASE32)?))
}

/// A new secret access key: 40 letters and digits, 238 bits, without the `/` and `+` that shells and URLs stumble over.
pub(super) fn secret_access_key() -> Result<String, NoRandom> {
    random(40, BASE62)
}

/// Whether `token` means to be an API key: what tells it from a signed token.
pub(in super::super) fn is_api_key(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Whether all of an API key is there, as it was issued.
pub(super) fn is_whole(key: &str) -> bool {
    key.len() == LENGTH && key.split_at_checked(PREFIX.len() + RANDOM).is_some_and(|(body, end)| checksum(body) == end)
}

/// Six digits to the base of 62, the most significant first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [0; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(rest % 62).unwrap_or(0);
        rest /= 62;
    }
    digits.iter().filter_map(|digit| BASE62.get(*digit)).map(|byte| char::from(*byte)).collect()
}

/// So many random characters of `alphabet`, which has at most 64: bytes that fall beyond it are drawn again, so that all are as likely.
fn random(length: usize, alphabet: &[u8]) -> Result<String, NoRandom> {
    let mut out = String::with_capacity(length);
    while out.len() < length {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).map_err(|_| NoRandom)?;
        let drawn = bytes.iter().filter_map(|byte| alphabet.get(usize::from(byte & 0x3f)));
        out.extend(drawn.take(length - out.len()).map(|byte| char::from(*byte)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_knows_itself_and_no_single_slip_passes() {
        for _ in 0..20 {
            let key = api_key().unwrap();
            assert!(is_api_key(&key) && is_whole(&key), "{key}");
            assert_eq!(key.len(), 53);
            for at in 0..key.len() {
                let mut typo = key.clone().into_bytes();
                typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_whole(std::str::from_utf8(&typo).unwrap()));
                assert!(!is_whole(key.split_at(at).0));
            }
        }
        assert!(!is_whole(""));
        assert!(!is_whole(&format!("tgk_{}", "é".repeat(24))));
    }

    #[test]
    fn names_and_secrets_are_of_the_shapes_that_sdks_know() {
        let id = access_key_id().unwrap();
        assert!(id.len() == 20 && id.starts_with("TGAK") && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
        let secret = secret_access_key().unwrap();
        assert!(secret.len() == 40 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(secret, secret_access_key().unwrap());
    }
}
