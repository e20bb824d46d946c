//! Requests of the v2 store: how etcd-dump-logs words them, and which of them hold a password.

use std::io::Write;

use super::message::Message;
use super::print::{REMOVED, Style};
use bbolt::goquote;

const METHOD: i32 = 2;
const PATH: i32 = 3;
const VAL: i32 = 4;
const TIME: i32 = 15;

/// Where the v2 store keeps its users, with their passwords' hashes (FORMATS F.2).
const USERS: &[u8] = b"/2/users/";

/// Whether the values of this request are a user's record, which holds the hash of a password.
pub(super) fn holds_password(request: Message<'_>) -> bool {
    request.data(PATH).starts_with(USERS)
}

/// Appends what etcd-dump-logs prints after `norm` and a tab.
pub(super) fn write(request: Message<'_>, style: &Style, out: &mut Vec<u8>) {
    let method = request.data(METHOD);
    match method {
        b"" => out.extend_from_slice(b"noop"),
        b"SYNC" => {
            let time = utc(request.number(TIME).cast_signed());
            // Writing to memory does not fail.
            let _ = write!(out, "method=SYNC time=\"{time}\"");
        }
        _ => {
            out.extend_from_slice(b"method=");
            // etcd-dump-logs prints whatever is there; what could steer a terminal is put in quotes.
            if method.iter().all(u8::is_ascii_graphic) {
                out.extend_from_slice(method);
            } else {
                goquote::quote(method, out);
            }
            out.extend_from_slice(b" path=");
            excerpt(request.data(PATH), 64, 64, out);
            if !matches!(method, b"QGET" | b"DELETE") {
                out.extend_from_slice(b" val=");
                let hidden = holds_password(request) && !style.show_secrets;
                excerpt(if hidden { REMOVED.as_bytes() } else { request.data(VAL) }, 128, 0, out);
            }
        }
    }
}

/// Text in quotes, with its middle left out when it is as long as both ends or longer.
fn excerpt(text: &[u8], head: usize, tail: usize, out: &mut Vec<u8>) {
    if head + tail > text.len() {
        goquote::quote(text, out);
        return;
    }
    goquote::quote(text.get(..head).unwrap_or(text), out);
    out.extend_from_slice(b"...");
    goquote::quote(text.get(text.len() - tail..).unwrap_or_default(), out);
}

/// A time in nanoseconds since 1970 as Go prints it.
fn utc(nanoseconds: i64) -> String {
    let (seconds, fraction) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = crate::gotime::civil(days);
    let fraction = match fraction {
        0 => String::new(),
        fraction => format!(".{fraction:09}").trim_end_matches('0').to_owned(),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_prints_them() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(utc(1_456_704_000_000_000_000), "2016-02-29 00:00:00 +0000 UTC");
        assert_eq!(utc(1_446_760_040_120_000_000), "2015-11-05 21:47:20.12 +0000 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59.999999999 +0000 UTC");
        // Both ends of Go's range of nanoseconds, from the documentation of time.UnixNano.
        assert_eq!(utc(i64::MAX), "2262-04-11 23:47:16.854775807 +0000 UTC");
        assert_eq!(utc(i64::MIN), "1677-09-21 00:12:43.145224192 +0000 UTC");
    }

    #[test]
    fn long_text_loses_its_middle() {
        let show = |text: &str, head, tail| {
            let mut out = Vec::new();
            excerpt(text.as_bytes(), head, tail, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show("abc", 2, 2), r#""abc""#);
        assert_eq!(show("abcd", 2, 2), r#""ab"..."cd""#);
        assert_eq!(show("abcdef", 2, 0), r#""ab"..."""#);
    }
}
