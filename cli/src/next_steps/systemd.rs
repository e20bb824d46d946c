//! systemd units.

use super::{FILL_IN, Start};

/// A unit that runs the member as `user`, or as `etcd`.
pub(super) fn text(start: &Start, user: Option<&str>) -> String {
    let mut command = vec!["/usr/bin/etcd".to_owned()];
    for flag in start.flags(FILL_IN) {
        command.push(quoted(&format!("--{}={}", flag.name, flag.value)));
    }
    format!(
        "{}: /etc/systemd/system/etcd.service
[Unit]
Description=etcd member {}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User={}
ExecStart={}
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
",
        start.title(),
        start.name.replace('%', "%%"),
        user.unwrap_or("etcd"),
        command.join(" \\\n  "),
    )
}

/// `word` as systemd splits command lines: `%` and `$` are its own, blanks and quotes need quoting.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('%', "%%").replace('$', "$$");
    if word.chars().any(|c| c.is_whitespace() || c == '"' || c == '\'' || c == ';') {
        format!("\"{}\"", word.replace('"', "\\\""))
    } else {
        word
    }
}
