//! The parts of a peer URL that say where a member runs. The library has validated the URL before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (_userinfo, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self { text, scheme, host: (!host.is_empty()).then_some(host), port: port.parse().ok() }
    }

    /// True when its traffic is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.scheme, "https" | "unixs")
    }

    /// The address that etcd binds for this URL: it takes addresses and `localhost`, no host names and no zones, for which
    /// all addresses of the host must do.
    fn address(&self) -> IpAddr {
        match self.host {
            Some("localhost") => Ipv4Addr::LOCALHOST.into(),
            Some(host) => match host.parse::<IpAddr>() {
                Ok(address) => address.to_canonical(),
                Err(_) if host.contains(':') => Ipv6Addr::UNSPECIFIED.into(),
                Err(_) => Ipv4Addr::UNSPECIFIED.into(),
            },
            None => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

/// The URLs to listen on for `urls`, such that no two of them bind the same address.
pub(crate) fn to_listen_on(urls: &[PeerUrl<'_>]) -> Vec<String> {
    let mut bound: Vec<(IpAddr, u16)> = Vec::new();
    let mut listen: Vec<String> = Vec::new();
    for url in urls {
        let Some(port) = url.port else {
            if !listen.iter().any(|other| other == url.text) {
                listen.push(url.text.to_owned());
            }
            continue;
        };
        let on_port = || urls.iter().filter(|other| other.port == Some(port)).map(PeerUrl::address);
        // Go binds either wildcard for both families, so there is room for one, and none for addresses beside it.
        let wildcard = on_port().any(|address| address.is_unspecified()).then(|| {
            if on_port().any(|address| address.is_ipv6()) {
                IpAddr::from(Ipv6Addr::UNSPECIFIED)
            } else {
                IpAddr::from(Ipv4Addr::UNSPECIFIED)
            }
        });
        let (address, host) = match wildcard {
            Some(address) => (address, address.to_string()),
            None => (url.address(), url.host.unwrap_or_default().to_owned()),
        };
        if !bound.contains(&(address, port)) {
            bound.push((address, port));
            listen.push(format!("{}://{}:{port}", url.scheme, in_url(&host)));
        }
    }
    listen
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
    #[case("http://[fe80::1%25eth0]:2380", Some("fe80::1%25eth0"), Some(2380), "http://[::]:2380")]
    #[case("http://u:p@10.0.0.1:2380", Some("10.0.0.1"), Some(2380), "http://10.0.0.1:2380")]
    #[case("http://:2380", None, Some(2380), "http://0.0.0.0:2380")]
    #[case("http://h:2380?a=b@c:1", Some("h"), Some(2380), "http://0.0.0.0:2380")]
    #[case("unix://m1.sock:0", None, None, "unix://m1.sock:0")]
    fn parts(
        #[case] text: &str,
        #[case] host: Option<&str>,
        #[case] port: Option<u16>,
        #[case] listen: &str,
    ) {
        let url = PeerUrl::new(text);
        assert_eq!((url.host, url.port), (host, port));
        assert_eq!(to_listen_on(&[url]), [listen]);
    }

    #[rstest]
    #[case::two_names("http://a:2380 http://b:2380", "http://0.0.0.0:2380")]
    #[case::two_names_two_ports("http://a:2380 http://b:2381", "http://0.0.0.0:2380 http://0.0.0.0:2381")]
    #[case::address_and_name("http://10.0.0.1:2380 http://b:2380", "http://0.0.0.0:2380")]
    #[case::name_and_address("http://b:2380 http://10.0.0.1:2380", "http://0.0.0.0:2380")]
    #[case::name_elsewhere("http://10.0.0.1:2380 http://b:2381", "http://10.0.0.1:2380 http://0.0.0.0:2381")]
    #[case::name_and_ipv6("http://b:2380 http://[fd00::1]:2380", "http://[::]:2380")]
    #[case::both_wildcards("http://0.0.0.0:2380 http://[::]:2380", "http://[::]:2380")]
    #[case::address_in_all("http://0.0.0.0:2380 http://10.0.0.1:2380", "http://0.0.0.0:2380")]
    #[case::two_addresses(
        "http://10.0.0.1:2380 http://10.0.0.2:2380",
        "http://10.0.0.1:2380 http://10.0.0.2:2380"
    )]
    #[case::loopback_twice("http://localhost:2380 http://127.0.0.1:2380", "http://localhost:2380")]
    #[case::sockets("unix://a:0 unix://a:0 unix://b:0", "unix://a:0 unix://b:0")]
    fn nothing_is_bound_twice(#[case] urls: &str, #[case] listen: &str) {
        let urls: Vec<PeerUrl<'_>> = urls.split(' ').map(PeerUrl::new).collect();
        assert_eq!(to_listen_on(&urls).join(" "), listen);
    }
}
