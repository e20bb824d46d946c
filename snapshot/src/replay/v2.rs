//! Requests of the v2 store (FORMATS G.3): with two of them servers up to 3.5 publish what is in the db as well, a member's
//! attributes and the cluster's version. All others are about keys of the v2 API, which are in no db.

use super::cluster::Cluster;
use super::small::Small;
use super::{Applied, StopReason, Why};
use crate::membership::{Member, parse_hex_id};
use crate::mvcc::Release;
use crate::request::Message;

const METHOD: i32 = 2;
const PATH: i32 = 3;
const VALUE: i32 = 4;
const PREVIOUS_VALUE: i32 = 6;
const PREVIOUS_INDEX: i32 = 7;
const PREVIOUS_EXISTS: i32 = 8;

/// Where the cluster's version is.
pub(crate) const VERSION_PATH: &[u8] = b"/0/version";

/// Carries out a request; without the small buckets, only to `cluster`.
///
/// # Errors
/// When a server dies over it.
pub(super) fn apply(
    cluster: &mut Cluster,
    small: Option<&mut Small>,
    asked: Message<'_>,
    release: Release,
) -> Result<Applied, StopReason> {
    let (path, value) = (asked.data(PATH), asked.data(VALUE));
    match asked.data(METHOD) {
        b"PUT" => {}
        b"POST" | b"DELETE" => return Ok(Applied::Nothing(Why::V2UserKey)),
        b"QGET" => return Ok(Applied::Nothing(Why::ReadOnly)),
        _ => return Ok(Applied::Nothing(Why::NoEffect)),
    }
    let has_condition = asked.last(PREVIOUS_EXISTS).is_some()
        || asked.number(PREVIOUS_INDEX) != 0
        || !asked.data(PREVIOUS_VALUE).is_empty();
    if has_condition {
        return Ok(Applied::Nothing(Why::V2UserKey));
    }
    if let Some(id) = member_of(path) {
        let mut attributes = Member::default();
        attributes.merge_attributes(value).map_err(|error| StopReason::Dies(error.to_string()))?;
        return cluster.update_attributes(small, id, (attributes.name, attributes.client_urls), release);
    }
    if path == VERSION_PATH {
        return cluster.set_version(small, value);
    }
    Ok(Applied::Nothing(Why::V2UserKey))
}

/// The member whose attributes lie at this path.
pub(crate) fn member_of(path: &[u8]) -> Option<u64> {
    let path = std::str::from_utf8(path).ok()?;
    let id = path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?;
    let is_id = (1..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    parse_hex_id(id).filter(|_| is_id)
}
