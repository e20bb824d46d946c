//! systemd units.

use super::{FILL_IN, Start, in_one_line};

/// A unit that runs the member as `user`, or as `etcd`.
pub(super) fn text(start: &Start, user: Option<&str>) -> String {
    let mut command = vec!["/usr/bin/etcd".to_owned()];
    for flag in start.flags(FILL_IN) {
        command.push(quoted(&format!("--{}={}", flag.name, flag.text())));
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
        in_one_line(&start.name).replace('%', "%%"),
        user.unwrap_or("etcd"),
        command.join(" \\\n  "),
    )
}

/// `word` as systemd splits command lines: `%` and `$` are its own, blanks and quotes need quoting, and no line may end.
fn quoted(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        match c {
            '\\' => out += "\\\\",
            '%' => out += "%%",
            '$' => out += "$$",
            '"' => out += "\\\"",
            // The control characters above these are two bytes each, and end no line of a unit.
            c if c.is_ascii_control() => out += &format!("\\x{:02x}", u32::from(c)),
            c => out.push(c),
        }
    }
    if word.chars().any(|c| c.is_whitespace() || c == '"' || c == '\'' || c == ';') {
        format!("\"{out}\"")
    } else {
        out
    }
}
