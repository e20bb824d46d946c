//! One pair, and one mark of what is wrong, as text.

use std::io::Write;

use bbolt::{Fault, PageId};

use super::Form;
use crate::finding::{Finding, Severity};
use crate::mvcc::{KeyValue, REVISION_KEY_BYTES, Revision};
use crate::request::schema::{LEASE_ROW, MessageType, ROLE_ROW, USER_ROW};
use crate::request::{Item, Parsed, REMOVED, Style, json, text};
use crate::schema::{
    AUTH, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, CONSISTENT_INDEX, FINISHED_COMPACT, KEY, LEASE, META,
    SCHEDULED_COMPACT, TERM,
};
use bbolt::goquote::quote;

/// Bytes are shown whole; what is secret never comes here.
const WHOLE: Style = Style { cut: None, show_secrets: false };

/// What the rows of a bucket are, for those who decode them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Records,
    Leases,
    Auth,
    Roles,
    Users,
    Meta,
    Other,
}

impl Rows {
    pub(super) fn of(bucket: &[u8]) -> Self {
        match bucket {
            KEY => Self::Records,
            LEASE => Self::Leases,
            AUTH => Self::Auth,
            AUTH_ROLES => Self::Roles,
            AUTH_USERS => Self::Users,
            META => Self::Meta,
            _ => Self::Other,
        }
    }
}

/// How the pairs of a bucket are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    pub(super) form: Form,
    pub(super) rows: Rows,
    pub(super) decode: bool,
    pub(super) show_secrets: bool,
}

/// What became of one pair.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Why it could not be decoded, with the code of that: it was printed as it stands.
    pub(super) undecodable: Option<(&'static str, String)>,
    /// Whether a password's hash was left out.
    pub(super) hid_secret: bool,
}

// Writing to memory does not fail, so what `write!` returns is let go in this file.
impl Printer {
    /// Appends one pair.
    pub(super) fn pair(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Said {
        let undecodable = if self.decode {
            let begin = out.len();
            match self.decoded(key, value, out) {
                Ok(true) => return Said::default(),
                Ok(false) => None,
                Err(problem) => {
                    out.truncate(begin);
                    Some(problem)
                }
            }
        } else {
            None
        };
        let hid_secret = self.plain(key, value, out);
        Said { undecodable, hid_secret }
    }

    /// Appends the pair as its bytes; whether a password's hash was left out.
    fn plain(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        let secret =
            if self.rows == Rows::Users && !self.show_secrets { secret_of(value) } else { Secret::None };
        if self.form == Form::Json {
            out.push(b'{');
            json::write_bytes("key", key, &WHOLE, out);
            match secret {
                Secret::None => json::write_bytes("value", value, &WHOLE, out),
                _ => json::write_string("value", REMOVED, out),
            }
            out.extend_from_slice(b"}\n");
            return secret != Secret::None;
        }
        out.extend_from_slice(b"key=");
        quote(key, out);
        out.extend_from_slice(b", value=");
        match secret {
            Secret::None => quote(value, out),
            Secret::Anywhere => {
                let _ = write!(out, "\"{REMOVED}\"");
            }
            Secret::Parts(parts) => {
                let mut shown = Vec::with_capacity(value.len());
                let mut done = 0;
                for (start, end) in parts {
                    shown.extend_from_slice(value.get(done..start).unwrap_or_default());
                    shown.extend_from_slice(REMOVED.as_bytes());
                    done = end;
                }
                shown.extend_from_slice(value.get(done..).unwrap_or_default());
                quote(&shown, out);
                out.push(b'\n');
                return true;
            }
        }
        out.push(b'\n');
        secret == Secret::Anywhere
    }

    /// Appends the pair as what it means; false when nothing is known of its meaning.
    fn decoded(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<bool, (&'static str, String)> {
        match self.rows {
            Rows::Records => self.record(key, value, out).map_err(|what| ("ETCD-RECORD", what)),
            Rows::Leases => self.lease(key, value, out).map_err(|what| ("ETCD-ROW", what)),
            Rows::Roles => self.role(value, out).map_err(|what| ("ETCD-ROW", what)),
            Rows::Users => self.user(value, out).map_err(|what| ("ETCD-ROW", what)),
            Rows::Auth if key == AUTH_REVISION => {
                self.number(key, value, out).map_err(|what| ("ETCD-ROW", what))
            }
            Rows::Auth if self.form == Form::Lines => {
                out.extend_from_slice(b"key=");
                quote(key, out);
                let bytes: Vec<String> = value.iter().map(u8::to_string).collect();
                let _ = writeln!(out, ", value=[{}]", bytes.join(" "));
                Ok(true)
            }
            Rows::Meta if key == CONSISTENT_INDEX || key == TERM => {
                self.number(key, value, out).map_err(|what| ("ETCD-ROW", what))
            }
            Rows::Meta if key == SCHEDULED_COMPACT || key == FINISHED_COMPACT => {
                self.compaction(key, value, out).map_err(|what| ("ETCD-ROW", what))
            }
            Rows::Auth | Rows::Meta | Rows::Other => Ok(false),
        }
    }

    /// Appends a record of the key space, complete with its end of line.
    pub(super) fn record(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let revision =
            revision_of(key).ok_or_else(|| format!("key {} is no revision", bbolt::fault::readable(key)))?;
        self.revision(revision, value, out)?;
        Ok(true)
    }

    /// Appends a record whose key is `revision`; members of an open object, or a line.
    pub(super) fn revision(&self, revision: Revision, value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let Revision { main, sub, tombstone } = revision;
        let kv = KeyValue::decode(value).map_err(|error| format!("revision {main}/{sub}: {error}"))?;
        let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
        if self.form == Form::Lines {
            let _ =
                write!(out, "rev={{Revision:{{Main:{main} Sub:{sub}}} tombstone:{tombstone}}}, value=[key ");
            quote(key, out);
            out.extend_from_slice(b" | val ");
            quote(value, out);
            let _ = writeln!(out, " | created {create_revision} | mod {mod_revision} | ver {version}]");
            return Ok(());
        }
        if out.last().is_none_or(|last| *last == b'\n') {
            out.push(b'{');
        } else {
            out.push(b',');
        }
        let _ = write!(out, "\"revision\":{{\"main\":{main},\"sub\":{sub}}},\"tombstone\":{tombstone}");
        json::write_bytes("key", key, &WHOLE, out);
        if !tombstone {
            let _ = write!(
                out,
                ",\"create_revision\":{create_revision},\"mod_revision\":{mod_revision},\"version\":{version}"
            );
            json::write_bytes("value", value, &WHOLE, out);
            if lease != 0 {
                json::write_string("lease", &format!("{lease:x}"), out);
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn lease(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let id: [u8; 8] = key.try_into().map_err(|_| {
            format!("key {} is no lease's ID, which has 8 bytes", bbolt::fault::readable(key))
        })?;
        let parsed = row(&LEASE_ROW, value)?;
        let lease = parsed.message();
        if self.form == Form::Json {
            return Ok(object(&parsed, out));
        }
        let (ttl, remaining) = (lease.number(2).cast_signed(), lease.number(3).cast_signed());
        let id = GoHex(i64::from_be_bytes(id));
        let _ = writeln!(out, "lease ID={id}, TTL={ttl}s, remaining TTL={remaining}s");
        Ok(true)
    }

    fn role(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let parsed = row(&ROLE_ROW, value)?;
        if self.form == Form::Json {
            return Ok(object(&parsed, out));
        }
        let role = parsed.message();
        out.extend_from_slice(b"role=");
        quote(role.data(1), out);
        out.extend_from_slice(b", keyPermission=[");
        for (at, permission) in role.messages_in(2).enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            text::write(permission, &WHOLE, out);
        }
        out.extend_from_slice(b"]\n");
        Ok(true)
    }

    fn user(&self, value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let parsed = row(&USER_ROW, value)?;
        let user = parsed.message();
        if self.form == Form::Json {
            out.push(b'{');
            json::write_members(user, &Style { cut: None, show_secrets: self.show_secrets }, out);
            out.extend_from_slice(b"}\n");
            return Ok(true);
        }
        out.extend_from_slice(b"user=");
        quote(user.data(1), out);
        out.extend_from_slice(b", roles=[");
        let roles = user.items().filter_map(|item| match item {
            Item::Known { field, value: crate::request::Value::Bytes(role), .. } if field.number == 3 => {
                Some(role)
            }
            _ => None,
        });
        for (at, role) in roles.enumerate() {
            if at > 0 {
                out.push(b' ');
            }
            quote(role, out);
        }
        out.extend_from_slice(b"], option=");
        match user.message(4) {
            Some(options) => text::write(options, &WHOLE, out),
            None => out.extend_from_slice(b"<nil>"),
        }
        out.push(b'\n');
        Ok(true)
    }

    /// A number of 8 bytes, or of more, of which the first 8 count as they do for Go.
    fn number(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let Some((number, _)) = value.split_first_chunk() else {
            return Err(format!("key {}: {} bytes are no number", bbolt::fault::readable(key), value.len()));
        };
        let number = u64::from_be_bytes(*number);
        if self.form == Form::Json {
            out.push(b'{');
            json::write_bytes("key", key, &WHOLE, out);
            json::write_number("value", number, out);
            out.extend_from_slice(b"}\n");
        } else {
            out.extend_from_slice(b"key=");
            quote(key, out);
            let _ = writeln!(out, ", value={number}");
        }
        Ok(true)
    }

    fn compaction(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        let Some(Revision { main, sub, .. }) = revision_of(value) else {
            return Err(format!(
                "key {}: {} is no revision",
                bbolt::fault::readable(key),
                bbolt::fault::readable(value)
            ));
        };
        if self.form == Form::Json {
            out.push(b'{');
            json::write_bytes("key", key, &WHOLE, out);
            let _ = writeln!(out, ",\"value\":{{\"main\":{main},\"sub\":{sub}}}}}");
        } else {
            out.extend_from_slice(b"key=");
            quote(key, out);
            let _ = writeln!(out, ", value={{{main} {sub}}}");
        }
        Ok(true)
    }
}

/// A revision as etcd 3.6 reads it: of 18 bytes the last may be anything, and makes a tombstone when it is a `t`.
pub(super) fn revision_of(key: &[u8]) -> Option<Revision> {
    let marked =
        || Revision::parse(key.get(..REVISION_KEY_BYTES).filter(|_| key.len() == REVISION_KEY_BYTES + 1)?);
    Revision::parse(key).or_else(marked)
}

fn row<'a>(kind: &'static MessageType, value: &'a [u8]) -> Result<Parsed<'a>, String> {
    Parsed::new(kind, value).map_err(|error| format!("no valid {}: {error}", kind.name))
}

fn object(parsed: &Parsed<'_>, out: &mut Vec<u8>) -> bool {
    json::write(parsed.message(), &WHOLE, out);
    out.push(b'\n');
    true
}

/// A signed number as Go's `%016x` prints it.
struct GoHex(i64);

impl std::fmt::Display for GoHex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0.. => write!(f, "{:016x}", self.0),
            // The sign is one of the 16 places.
            negative => write!(f, "-{:015x}", negative.unsigned_abs()),
        }
    }
}

/// Where in a user's row the hash of a password stands.
#[derive(Debug, PartialEq, Eq)]
enum Secret {
    None,
    /// First byte and end, for each.
    Parts(Vec<(usize, usize)>),
    /// The row cannot be read, and may hold one anywhere.
    Anywhere,
}

fn secret_of(value: &[u8]) -> Secret {
    let Ok(parsed) = Parsed::new(&USER_ROW, value) else { return Secret::Anywhere };
    let Some(user) = parsed.borrowed() else { return Secret::Anywhere };
    let mut parts = Vec::new();
    for item in user.items() {
        match item {
            Item::Known { field, value: crate::request::Value::Bytes(hash), .. }
                if field.number == 2 && !hash.is_empty() =>
            {
                let start = (hash.as_ptr() as usize).saturating_sub(value.as_ptr() as usize);
                parts.push((start, start + hash.len()));
            }
            Item::Known { .. } => {}
            // Damage may have turned the field's number.
            Item::Unknown(_) => return Secret::Anywhere,
        }
    }
    if parts.is_empty() { Secret::None } else { Secret::Parts(parts) }
}

/// A fault of the structure as a finding.
pub(super) fn finding_of(fault: &Fault) -> Finding {
    let finding = Finding::new(fault.code(), Severity::Error, fault.to_string());
    Finding { offset: Some(fault.span.offset), ..finding }
}

/// Appends the mark of what is wrong, where it stands.
pub(super) fn mark(form: Form, finding: &Finding, page: PageId, out: &mut Vec<u8>) {
    match form {
        Form::Lines => {
            let _ = writeln!(out, "Error: {}: {}", finding.code, finding.message);
        }
        Form::Json => {
            out.push(b'{');
            json::write_string("record", "fault", out);
            json::write_string("code", finding.code, out);
            json::write_number("page", page.0, out);
            if let Some(offset) = finding.offset {
                json::write_number("offset", offset, out);
            }
            json::write_string("message", &finding.message, out);
            out.extend_from_slice(b"}\n");
        }
    }
}
