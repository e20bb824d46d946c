//! Peer URLs, read and written as etcd does: Go's `net/url` plus the rules of etcd's `types.NewURLs`.
//!
//! A member's ID is a hash over the text of its peer URLs (FORMATS H.1), so the text must be the one Go would print
//! after parsing what the operator typed: surrounding space gone, scheme in lower case, escapes normalised, and nothing
//! else: the host keeps its case, `http://host:080` its zero, and no name is ever resolved.
//!
//! Modelled on Go 1.19 to 1.24 (etcd 3.5 to 3.7). Later patch releases of Go refuse some bracketed hosts that are no
//! IPv6 address; those are accepted here.

use std::fmt;

/// Why a text is not a peer URL. The wording of the second half is etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Nothing was given.
    #[error("no valid URLs given")]
    None,
    /// Not a URL at all, by Go's rules.
    #[error("parse {}: {why}", go_quote(url.as_bytes()))]
    Parse {
        /// The text as typed, trimmed.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A scheme etcd does not speak.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No host, no port, or an IPv6 address without brackets.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// Something after the port, if only a slash.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

/// One or more peer URLs of one member: never empty, sorted as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerUrls(Vec<String>);

impl PeerUrls {
    /// Reads each text as [`parse`] does, and sorts.
    ///
    /// # Errors
    /// The first text that is no peer URL, or [`UrlError::None`].
    pub fn new<S: AsRef<str>>(texts: &[S]) -> Result<PeerUrls, UrlError> {
        if texts.is_empty() {
            return Err(UrlError::None);
        }
        let mut urls = texts.iter().map(|t| parse(t.as_ref())).collect::<Result<Vec<_>, _>>()?;
        urls.sort_unstable();
        Ok(PeerUrls(urls))
    }

    /// Reads a comma-separated list, as `--initial-advertise-peer-urls` takes it.
    ///
    /// # Errors
    /// As [`PeerUrls::new`].
    pub fn from_list(list: &str) -> Result<PeerUrls, UrlError> {
        PeerUrls::new(&list.split(',').collect::<Vec<_>>())
    }

    /// The URLs in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for PeerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// The text Go prints for the URL `text`, if etcd takes it as a peer URL.
///
/// # Errors
/// Says what is wrong, in etcd's words where etcd has some.
pub fn parse(text: &str) -> Result<String, UrlError> {
    let text = text.trim();
    let url = Url::parse(text).map_err(|why| UrlError::Parse { url: text.to_owned(), why })?;
    match url.scheme.as_str() {
        "http" | "https" => {
            if !has_host_and_port(&url.host) {
                return Err(UrlError::HostPort(text.to_owned()));
            }
            if !url.path.is_empty() {
                return Err(UrlError::Path(text.to_owned()));
            }
        }
        "unix" | "unixs" => {}
        _ => return Err(UrlError::Scheme(text.to_owned())),
    }
    Ok(url.to_text())
}

/// A parsed URL. Decoded parts are bytes, since an escape may stand for any byte.
#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    /// User name, and password if there was a colon.
    user: Option<(Vec<u8>, Option<Vec<u8>>)>,
    host: Vec<u8>,
    path: Vec<u8>,
    /// The path as typed, when the default escaping would not give it back.
    raw_path: String,
    /// `scheme:/path`, as opposed to `scheme:///path`.
    omit_host: bool,
    force_query: bool,
    raw_query: String,
    fragment: Vec<u8>,
    raw_fragment: String,
}

/// Which part of a URL a byte stands in: each part has its own set of bytes that need an escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    User,
    Host,
    Zone,
    Path,
    Fragment,
}

impl Url {
    fn parse(text: &str) -> Result<Url, String> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        if rest.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let mut url = Url::default();
        let (scheme, rest) = split_scheme(rest)?;
        url.scheme = scheme.to_ascii_lowercase();
        let mut rest = match rest.split_once('?') {
            Some((before, "")) => {
                url.force_query = true;
                before
            }
            Some((before, query)) => {
                query.clone_into(&mut url.raw_query);
                before
            }
            None => rest,
        };
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                url.set_fragment(fragment)?;
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|s| s.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        if let Some(after) = rest.strip_prefix("//")
            && (!url.scheme.is_empty() || !rest.starts_with("///"))
        {
            let end = after.find('/').unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            url.set_authority(authority)?;
            rest = path;
        } else if !url.scheme.is_empty() && rest.starts_with('/') {
            url.omit_host = true;
        }
        url.path = unescape(rest, Part::Path)?;
        if escape(&url.path, Part::Path) != rest {
            rest.clone_into(&mut url.raw_path);
        }
        url.set_fragment(fragment)?;
        Ok(url)
    }

    fn set_fragment(&mut self, fragment: &str) -> Result<(), String> {
        self.fragment = unescape(fragment, Part::Fragment)?;
        if escape(&self.fragment, Part::Fragment) != fragment {
            fragment.clone_into(&mut self.raw_fragment);
        }
        Ok(())
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        self.host = parse_host(host)?;
        let Some(user) = user else { return Ok(()) };
        if !user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        self.user = Some(match user.split_once(':') {
            Some((name, password)) => (unescape(name, Part::User)?, Some(unescape(password, Part::User)?)),
            None => (unescape(user, Part::User)?, None),
        });
        Ok(())
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            if !(self.omit_host && self.host.is_empty() && self.user.is_none()) {
                if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                    out.push_str("//");
                }
                if let Some((name, password)) = &self.user {
                    out.push_str(&escape(name, Part::User));
                    if let Some(password) = password {
                        out.push(':');
                        out.push_str(&escape(password, Part::User));
                    }
                    out.push('@');
                }
                out.push_str(&escape(&self.host, Part::Host));
            }
            out.push_str(&as_typed_or_escaped(&self.raw_path, &self.path, Part::Path));
        } else {
            out.push_str(&self.opaque);
        }
        if self.force_query || !self.raw_query.is_empty() {
            out.push('?');
            out.push_str(&self.raw_query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&as_typed_or_escaped(&self.raw_fragment, &self.fragment, Part::Fragment));
        }
        out
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            // The cut is at an ASCII byte, so both halves are whole characters.
            b':' => return Ok((text.get(..i).unwrap_or(""), text.get(i + 1..).unwrap_or(""))),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn parse_host(host: &str) -> Result<Vec<u8>, String> {
    if host.starts_with('[') {
        let Some((literal, port)) = host.rsplit_once(']') else {
            return Err("missing ']' in host".to_owned());
        };
        check_port(port)?;
        if let Some(zone) = literal.find("%25") {
            let (address, zone) = literal.split_at(zone);
            let mut out = unescape(address, Part::Host)?;
            out.extend(unescape(zone, Part::Zone)?);
            out.push(b']');
            out.extend_from_slice(port.as_bytes());
            return Ok(out);
        }
    } else if let Some(colon) = host.rfind(':') {
        check_port(host.get(colon..).unwrap_or(""))?;
    }
    unescape(host, Part::Host)
}

/// `colon_port` is empty, or a colon and any number of digits: Go leaves it to others to miss the number.
fn check_port(colon_port: &str) -> Result<(), String> {
    let fine = colon_port.is_empty()
        || colon_port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if fine { Ok(()) } else { Err(format!("invalid port {} after host", go_quote(colon_port.as_bytes()))) }
}

/// Whether Go's `net.SplitHostPort` would split this.
fn has_host_and_port(host: &[u8]) -> bool {
    let Some(colon) = host.iter().rposition(|b| *b == b':') else { return false };
    let (name, after_bracket) = if host.first() == Some(&b'[') {
        match host.iter().position(|b| *b == b']') {
            Some(end) if end + 1 == colon => (host.get(1..end), host.get(end + 1..)),
            _ => return false,
        }
    } else {
        let name = host.get(..colon);
        if name.is_some_and(|n| n.contains(&b':')) {
            return false;
        }
        (name, Some(host))
    };
    let (name, rest) = (name.unwrap_or_default(), after_bracket.unwrap_or_default());
    !name.contains(&b'[') && !rest.contains(&b'[') && !rest.contains(&b']')
}

/// Whether `b` has to be written as an escape in `part` (RFC 3986 as Go reads it).
fn needs_escape(b: u8, part: Part) -> bool {
    if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
        return false;
    }
    match part {
        Part::Host | Part::Zone => !b"!$&'()*+,;=:[]<>\"".contains(&b),
        Part::User => !b"$&+,;=".contains(&b),
        Part::Path => !b"$&+,/:;=@".contains(&b),
        Part::Fragment => !b"$&+,/:;=?@!()*".contains(&b),
    }
}

fn escape(bytes: &[u8], part: Part) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &b in bytes {
        if needs_escape(b, part) {
            out.push_str(&format!("%{b:02X}"));
        } else {
            out.push(char::from(b));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&b, rest)) = bytes.split_first() {
        bytes = rest;
        if b != b'%' {
            if matches!(part, Part::Host | Part::Zone) && b.is_ascii() && needs_escape(b, part) {
                return Err(format!("invalid character {} in host name", go_quote(&[b])));
            }
            out.push(b);
            continue;
        }
        let refused = || {
            format!("invalid URL escape {}", go_quote(&[&b"%"[..], rest.get(..2).unwrap_or(rest)].concat()))
        };
        let (Some(high), Some(low)) = (rest.first().and_then(|b| hex(*b)), rest.get(1).and_then(|b| hex(*b)))
        else {
            return Err(refused());
        };
        let value = high << 4 | low;
        let allowed = match part {
            // A host may hide only bytes beyond ASCII behind escapes; a zone what a host may hold, and spaces.
            Part::Host => high >= 8 || value == b'%',
            Part::Zone => matches!(value, b'%' | b' ') || !needs_escape(value, Part::Host),
            _ => true,
        };
        if !allowed {
            return Err(refused());
        }
        out.push(value);
        bytes = rest.get(2..).unwrap_or_default();
    }
    Ok(out)
}

fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The part as it was typed if that is a sound spelling of `decoded`, else the usual spelling.
fn as_typed_or_escaped(raw: &str, decoded: &[u8], part: Part) -> String {
    let sound = !raw.is_empty()
        && raw.bytes().all(|b| b"!$&'()*+,;=:@[]%".contains(&b) || !needs_escape(b, part))
        && unescape(raw, part).is_ok_and(|d| d == decoded);
    if sound {
        raw.to_owned()
    } else if part == Part::Path && decoded == b"*" {
        "*".to_owned()
    } else {
        escape(decoded, part)
    }
}

/// `bytes` in double quotes as Go's `%q` shows them, as far as URLs and names need it.
pub(crate) fn go_quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_what_etcd_takes() {
        for (typed, printed) in [
            ("http://10.0.0.1:2380", "http://10.0.0.1:2380"),
            ("  HTTPS://Host.Example:2380\t", "https://Host.Example:2380"),
            ("http://[::1]:2380", "http://[::1]:2380"),
            ("http://[fe80::1%25eth0]:2380", "http://[fe80::1%25eth0]:2380"),
            ("http://host:", "http://host:"),
            ("http://:2380", "http://:2380"),
            ("http://host:02380", "http://host:02380"),
            ("http://user:pa%40ss@host:1", "http://user:pa%40ss@host:1"),
            ("http://host:1?a=b", "http://host:1?a=b"),
            ("http://host:1?", "http://host:1?"),
            ("http://host:1#", "http://host:1"),
            ("http://b\u{fc}cher:2380", "http://b%C3%BCcher:2380"),
            ("http://b%c3%bccher:2380", "http://b%C3%BCcher:2380"),
            ("unix://localhost:m10", "error"),
            ("unix://localhost:10", "unix://localhost:10"),
            ("unix:///var/run/etcd.sock", "unix:///var/run/etcd.sock"),
            ("unix:/var/run/etcd.sock", "unix:/var/run/etcd.sock"),
            ("unixs:rel", "unixs:rel"),
        ] {
            match parse(typed) {
                Ok(text) => assert_eq!(text, printed),
                Err(e) => assert_eq!(printed, "error", "{typed}: {e}"),
            }
        }
    }

    #[test]
    fn refuses_in_etcds_words() {
        for (typed, said) in [
            ("ftp://host:1", "URL scheme must be http, https, unix, or unixs: ftp://host:1"),
            ("host", "URL scheme must be http, https, unix, or unixs: host"),
            ("http://host", "URL address does not have the form \"host:port\": http://host"),
            ("http:host:1", "URL address does not have the form \"host:port\": http:host:1"),
            ("http://", "URL address does not have the form \"host:port\": http://"),
            ("http://::1:2380", "URL address does not have the form \"host:port\": http://::1:2380"),
            ("http://[::1]", "URL address does not have the form \"host:port\": http://[::1]"),
            ("http://host:1/", "URL must not contain a path: http://host:1/"),
            ("http://host:1/a b", "URL must not contain a path: http://host:1/a b"),
            ("host:2380", "URL scheme must be http, https, unix, or unixs: host:2380"),
            ("10.0.0.1:2380", "parse \"10.0.0.1:2380\": first path segment in URL cannot contain colon"),
            ("://host", "parse \"://host\": missing protocol scheme"),
            ("http://host:a", "parse \"http://host:a\": invalid port \":a\" after host"),
            ("http://ho st:1", "parse \"http://ho st:1\": invalid character \" \" in host name"),
            ("http://h%41:1", "parse \"http://h%41:1\": invalid URL escape \"%41\""),
            ("http://h%4", "parse \"http://h%4\": invalid URL escape \"%4\""),
            ("http://[::1:1", "parse \"http://[::1:1\": missing ']' in host"),
            ("http://a\u{1}:1", "parse \"http://a\\x01:1\": net/url: invalid control character in URL"),
            ("http://a b@h:1", "parse \"http://a b@h:1\": net/url: invalid userinfo"),
        ] {
            assert_eq!(parse(typed).expect_err(typed).to_string(), said);
        }
        assert_eq!(PeerUrls::new::<&str>(&[]), Err(UrlError::None));
    }

    #[test]
    fn sorts_as_text() {
        let urls = PeerUrls::from_list("http://b:1, http://a:10,http://a:9").expect("three URLs");
        assert_eq!(urls.to_string(), "http://a:10,http://a:9,http://b:1");
    }

    proptest! {
        #[test]
        fn printing_is_a_fixed_point(text in "(http|https|unix)://[a-z0-9%:@\\[\\]./é?#-]{0,20}|\\PC{0,30}") {
            if let Ok(once) = parse(&text) {
                prop_assert_eq!(parse(&once).expect("what we print we read"), once);
            }
        }
    }
}
