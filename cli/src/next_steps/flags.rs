//! Commands for a shell.

use super::{FILL_IN, Start};

/// The command that starts the member.
pub(super) fn text(start: &Start) -> String {
    let mut lines = vec!["etcd".to_owned()];
    for flag in start.flags(FILL_IN) {
        lines.push(match flag.value.as_str() {
            "true" => format!("--{}", flag.name),
            value => format!("--{} {}", flag.name, quoted(value)),
        });
    }
    format!("{}\n{}\n", start.title(), lines.join(" \\\n  "))
}

/// `value` as one word of a shell.
pub(super) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}
