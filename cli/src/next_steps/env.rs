//! Environment files, which systemd's `EnvironmentFile=` and shells read alike.

use super::{FILL_IN, Start};

/// The variables etcd reads in place of flags.
pub(super) fn text(start: &Start) -> String {
    let mut out = start.title() + "\n";
    for flag in start.flags(FILL_IN) {
        let name = flag.name.to_uppercase().replace('-', "_");
        out += &format!("ETCD_{name}={}\n", quoted(&flag.text()));
    }
    out
}

/// `value` in double quotes where it is more than plain characters.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
