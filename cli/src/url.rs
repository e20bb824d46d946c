//! The parts of a peer URL that say where a member runs. The library has validated the URL before.

use std::net::IpAddr;

/// A URL taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerUrl<'a> {
    /// All of it.
    pub(crate) text: &'a str,
    /// `http`, `https`, `unix` or `unixs`.
    pub(crate) scheme: &'a str,
    /// Host name or address, without brackets; `None` for sockets.
    pub(crate) host: Option<&'a str>,
    /// Port, where there is one.
    pub(crate) port: Option<u16>,
}

impl<'a> PeerUrl<'a> {
    /// Takes `text` apart.
    pub(crate) fn new(text: &'a str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if scheme.starts_with("unix") {
            return Self { text, scheme, host: None, port: None };
        }
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self { text, scheme, host: (!host.is_empty()).then_some(host), port: port.parse().ok() }
    }

    /// True when its traffic is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.scheme, "https" | "unixs")
    }

    /// The URL to listen on for this one: etcd binds addresses and `localhost`, never host names.
    pub(crate) fn to_listen_on(self) -> String {
        match (self.host, self.port) {
            (Some(host), Some(port)) if !can_bind(host) => format!("{}://0.0.0.0:{port}", self.scheme),
            _ => self.text.to_owned(),
        }
    }
}

/// True when etcd accepts `host` in a URL to listen on.
pub(crate) fn can_bind(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

/// True when `host` is reached from itself only.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host` as it stands in a URL.
pub(crate) fn in_url(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://host1:2380", Some("host1"), Some(2380), "http://0.0.0.0:2380")]
    #[case("https://10.0.0.1:2380", Some("10.0.0.1"), Some(2380), "https://10.0.0.1:2380")]
    #[case("http://localhost:2380", Some("localhost"), Some(2380), "http://localhost:2380")]
    #[case("http://[fd00::1]:2380", Some("fd00::1"), Some(2380), "http://[fd00::1]:2380")]
    #[case("unix://m1.sock:0", None, None, "unix://m1.sock:0")]
    fn parts(
        #[case] text: &str,
        #[case] host: Option<&str>,
        #[case] port: Option<u16>,
        #[case] listen: &str,
    ) {
        let url = PeerUrl::new(text);
        assert_eq!((url.host, url.port), (host, port));
        assert_eq!(url.to_listen_on(), listen);
    }
}
