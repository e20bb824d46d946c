//! What is known of an integrity hash, in words.

use snapshot::integrity::{Digest, Integrity, Verdict};

/// [`sentence`] where a mismatch is among the findings, which say the rest.
pub(crate) fn beside_findings(verdict: &Verdict) -> String {
    match verdict.integrity {
        Integrity::Mismatch => "integrity: mismatch".to_owned(),
        _ => sentence(verdict),
    }
}

/// One sentence, without what to do about it.
pub(crate) fn sentence(verdict: &Verdict) -> String {
    let unknown = || "unknown".to_owned();
    let show = |digest: &Option<Digest>| digest.as_ref().map_or_else(unknown, ToString::to_string);
    let computed = show(&verdict.computed);
    match verdict.integrity {
        Integrity::Verified => format!("integrity: verified (sha256 {computed})"),
        Integrity::Absent => {
            let content =
                verdict.computed.as_ref().map_or_else(String::new, |d| format!("; its content has sha256 {d}"));
            format!(
                "integrity: absent: the file carries no SHA-256, as a db from a data dir does not and a \
                 snapshot does{content}"
            )
        }
        Integrity::Mismatch => format!(
            "integrity: mismatch: the file says sha256 {}, its content has {computed}: it was changed or \
             damaged after it was saved",
            show(&verdict.expected)
        ),
        Integrity::Unchecked => {
            "integrity: unchecked, because of --skip-hash-check: whether the content is what was saved is not known"
                .to_owned()
        }
    }
}
