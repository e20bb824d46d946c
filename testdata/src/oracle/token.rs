//! Tokens that a server signs and a test can sign as well: whose they are and of which auth revision is the test's to say.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::base64;

/// What both sides sign with.
const KEY: &[u8] = b"known to the server and to the test";
/// Bytes SHA-256 takes at a time.
const BLOCK: usize = 64;

/// A revision that no store comes to: a token of it is never too old.
pub const NEVER_OLD: u64 = 1 << 50;

/// Writes the key to `dir` and returns the flag that makes a server sign and read JSON web tokens with it.
#[track_caller]
pub fn token_flag(dir: &Path) -> String {
    let path: PathBuf = dir.join("token.key");
    fs::write(&path, KEY).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl=1h", path.display())
}

/// A token of `user`, as the server gave it out when its auth was at `revision`.
#[must_use]
pub fn token(user: &str, revision: u64) -> String {
    let head = url_safe(json!({ "alg": "HS256", "typ": "JWT" }).to_string().as_bytes());
    let claims = url_safe(json!({ "username": user, "revision": revision }).to_string().as_bytes());
    let signed = format!("{head}.{claims}");
    let signature = url_safe(&hmac(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn url_safe(bytes: &[u8]) -> String {
    base64::encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// RFC 2104 over SHA-256 with [`KEY`], which is shorter than a block.
fn hmac(message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let mut block = [pad; BLOCK];
        for (byte, key) in block.iter_mut().zip(KEY) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{hmac, token};

    /// As `openssl dgst -sha256 -hmac` prints it.
    #[test]
    fn a_signature() {
        let hex: String = hmac(b"what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "3d72a1a35dff180abe8ba2b7fe6a35b8dae78e3bf51e9c046dc1fbea2a8b240f");
        assert_eq!(token("root", 3).split('.').count(), 3);
    }
}
