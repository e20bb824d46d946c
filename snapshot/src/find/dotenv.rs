//! Environment files, as systemd and shells read them: `NAME=value` a line, quotes, comments, lines that go on behind a backslash.

/// The assignments in `text`, in order.
pub(super) fn read(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim().to_owned();
        if line.starts_with(['#', ';']) {
            continue;
        }
        while line.ends_with('\\') {
            line.pop();
            match lines.next() {
                Some(next) => line += next.trim(),
                None => break,
            }
        }
        let assignment = line.strip_prefix("export ").unwrap_or(&line);
        let Some((name, value)) = assignment.split_once('=') else { continue };
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_name {
            found.push((name.to_owned(), unquoted(value.trim())));
        }
    }
    found
}

/// `value` without the quotes around it or within it.
fn unquoted(value: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => out.push(c),
            (_, '\\') => out.extend(chars.next()),
            // A comment behind a value; systemd knows none, shells do, and no value of etcd's has this.
            (None, ' ') if chars.peek() == Some(&'#') => break,
            (_, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_shells_and_systemd_do() {
        let text = "# a comment\nETCD_NAME=n1\nexport ETCD_DATA_DIR=\"/var/lib/my etcd\"\n; no\nETCD_INITIAL_CLUSTER='a=http://a:1',\\\nb=http://b:1\n\
                    ETCD_X=\nnot a line\n=empty\nETCD_Y=\"a\\\"b\" # said\nA B=c\nETCD_Z=open\\";
        let read = read(text);
        let expected = [
            ("ETCD_NAME", "n1"),
            ("ETCD_DATA_DIR", "/var/lib/my etcd"),
            ("ETCD_INITIAL_CLUSTER", "a=http://a:1,b=http://b:1"),
            ("ETCD_X", ""),
            ("ETCD_Y", "a\"b"),
            ("ETCD_Z", "open"),
        ];
        let pairs: Vec<(&str, &str)> =
            read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, expected);
    }
}
