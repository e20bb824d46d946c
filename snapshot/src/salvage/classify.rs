//! Which bucket a leaf is of, by its keys alone (FORMATS A.12, B.1).

use bbolt::carve::{Element, Leaf};
use bbolt::page::HEADER_BYTES;
use bbolt::{Node, PageId};
use prost::Message;
use serde::Serialize;

use crate::mvcc::{KeyValue, Revision};
use crate::schema::{
    ALARM, AUTH, AUTH_ENABLED, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, Alarm, CLUSTER, CLUSTER_VERSION,
    CONF_STATE, CONSISTENT_INDEX, DOWNGRADE, FINISHED_COMPACT, KEY, LEASE, LeaseRow, MEMBERS,
    MEMBERS_REMOVED, META, RoleRow, SCHEDULED_COMPACT, STORAGE_VERSION, TERM, UserRow,
};

/// What a leaf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Records of keys.
    Key,
    /// The names of buckets, some of the buckets in them: a generation of the root bucket, or a part of one.
    Root,
    /// Rows of bucket `meta`.
    Meta,
    /// Rows of bucket `lease`.
    Lease,
    /// Rows of bucket `alarm`.
    Alarm,
    /// Rows of bucket `auth`.
    Auth,
    /// Rows of bucket `authUsers`.
    AuthUsers,
    /// Rows of bucket `authRoles`.
    AuthRoles,
    /// Rows of bucket `members`.
    Members,
    /// Rows of bucket `members_removed`.
    MembersRemoved,
    /// Rows of bucket `cluster`.
    Cluster,
    /// Rows of none of etcd's buckets.
    Other,
}

/// A revision without the mark of a tombstone: what orders records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The main revision.
    pub main: i64,
    /// The place within it.
    pub sub: i64,
}

impl Point {
    /// The revision that `key` is of, and whether of a tombstone.
    #[inline]
    #[must_use]
    pub fn parse(key: &[u8]) -> Option<(Self, bool)> {
        let revision = Revision::parse(key).filter(|revision| revision.main > 0)?;
        Some((Self { main: revision.main, sub: revision.sub }, revision.tombstone))
    }

    /// Whether `next` is the next record in a history that is not compacted: main revisions and the places in them have no gaps.
    #[inline]
    pub(crate) fn is_before(self, next: Self) -> bool {
        let same = next.main == self.main && self.sub.checked_add(1) == Some(next.sub);
        same || next.sub == 0 && self.main.checked_add(1) == Some(next.main)
    }

    /// Whether the place within the revision is one that hardly a transaction reaches, and that a bit too many makes of one that it
    /// does; `other` is the record next to it.
    fn is_far_from(self, other: Option<Self>) -> bool {
        let is_bit_off = (self.sub >> PLACE_BITS).count_ones() == 1;
        let is_near =
            |other: Self| other.main == self.main && other.sub.abs_diff(self.sub) >> PLACE_BITS == 0;
        is_bit_off && !other.is_some_and(is_near)
    }

    /// As [`Self::parse`], for a key that is cut or longer than a revision: as far as it is there.
    #[must_use]
    pub fn of_bound(key: &[u8]) -> Self {
        let number = |from: usize| {
            let mut word = [0; 8];
            let there = key.get(from..).unwrap_or_default();
            let len = there.len().min(8);
            if let (Some(to), Some(from)) = (word.get_mut(..len), there.get(..len)) {
                to.copy_from_slice(from);
            }
            // What is larger than any revision stays so.
            i64::try_from(u64::from_be_bytes(word)).unwrap_or(i64::MAX)
        };
        Self { main: number(0), sub: number(9) }
    }
}

/// What was seen of a leaf while it was in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) class: Class,
    /// The first and last revision: of a leaf of records, and of those that stand in a root bucket's leaf. `None`: no records.
    pub(crate) span: Option<(Point, Point)>,
    /// Whether an element of a leaf of records is [`Entry::Odd`].
    pub(crate) is_odd: bool,
    /// Whether a leaf of records has one at a place within its revision that rather is a bit off than true.
    pub(crate) is_far: bool,
    /// The last main revision in a leaf of records in front of which something is missing that stands there in every history that is not
    /// compacted; 0 for none.
    pub(crate) broken_at: i64,
}

/// What an element of a leaf of records is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A record at this revision, whatever its value is worth; true: of a tombstone.
    At(Point, bool),
    /// No record, or one of another revision than its key says.
    Odd,
}

impl Entry {
    /// What an element is whose key is all there. `is_whole`: so is its value.
    #[inline]
    pub(crate) fn of(key: &[u8], value: &[u8], is_bucket: bool, is_whole: bool) -> Self {
        match Point::parse(key).filter(|_| !is_bucket) {
            Some((point, is_tombstone)) if !is_whole || !is_of_another(value, point.main, is_tombstone) => {
                Self::At(point, is_tombstone)
            }
            _ => Self::Odd,
        }
    }
}

/// Bits of the places within a revision that are found: a server takes 128 operations in a transaction, if it is not told otherwise, and
/// a deletion of a range has a place for each key.
const PLACE_BITS: u32 = 16;
/// Revisions that no two records next to each other are apart, but where a restore left a blank record.
const MOST_APART: i64 = 1 << 32;
/// Revisions that two records next to each other are rarely apart.
const RARELY_APART: i64 = 1 << 16;
/// How near to the one before a revision has to be without one of its bits, for that bit to be taken as wrong.
const NEAR: i64 = 1 << 10;

/// Whether a main revision is too far behind the one before to be believed: farther than any, or farther than most, and near but for one bit.
fn is_far_behind(before: i64, main: i64) -> bool {
    let apart = main.saturating_sub(before);
    let highest = (main ^ before).checked_ilog2().unwrap_or_default();
    apart > MOST_APART || apart > RARELY_APART && (0..NEAR).contains(&((main ^ 1 << highest) - before))
}

/// What the elements of a leaf are of which all of the key is there. The value of a tombstone does not say of which revision it is: that of
/// one that stands out of its order, or far from the record before, is not believed.
pub(crate) fn entries<'l>(leaf: &'l Leaf<'_>) -> impl Iterator<Item = (Element<'l>, Entry)> {
    let mut before: Option<Point> = None;
    let mut elements = leaf.elements().filter(Element::has_key).peekable();
    std::iter::from_fn(move || {
        let element = elements.next()?;
        let mut entry = Entry::of(element.key, element.value, element.is_bucket, element.is_whole());
        if let Entry::At(point, is_tombstone) = entry {
            // A put behind it, whose value says of which revision it is, speaks for it.
            let mut is_next_later = || {
                elements.peek().is_some_and(|next| {
                    let entry = Entry::of(next.key, next.value, next.is_bucket, next.is_whole());
                    matches!(entry, Entry::At(next, false) if next.main > point.main)
                })
            };
            let is_out = match before {
                _ if !is_tombstone => false,
                Some(before) => is_far_behind(before.main, point.main) && !is_next_later(),
                None => {
                    let next = elements.peek().and_then(|next| Point::parse(next.key));
                    next.is_some_and(|(next, _)| is_far_behind(next.main, point.main))
                }
            };
            if is_out {
                entry = Entry::Odd;
            } else {
                before = Some(point);
            }
        }
        Some((element, entry))
    })
}

/// Whether `value` is a record, and not of main revision `main`: all of it is a message, and it names another revision, or is a put
/// where a tombstone should be, or the other way round.
#[inline]
fn is_of_another(value: &[u8], main: i64, is_tombstone: bool) -> bool {
    if value.is_empty() || says(value, main, is_tombstone) {
        return false;
    }
    let Ok(kv) = KeyValue::decode(value) else { return false };
    let is_put = kv.mod_revision > 0 && kv.create_revision > 0 && kv.version > 0;
    let is_key_alone = KeyValue { key: kv.key, ..KeyValue::default() } == kv && !kv.key.is_empty();
    if is_tombstone { is_put } else { is_put && kv.mod_revision != main || is_key_alone }
}

/// Whether the first fields of a record, as every server writes them, are those of main revision `main`. What is not clear at once is
/// for the decoder.
#[inline]
fn says(value: &[u8], main: i64, is_tombstone: bool) -> bool {
    let number = |at: usize| {
        let (mut number, mut shift) = (0u64, 0);
        for (byte, next) in value.get(at..)?.iter().take(10).zip(at + 1..) {
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if *byte < 0x80 {
                return Some((number, next));
            }
            shift += 7;
        }
        None
    };
    let Some((key_bytes, key_at)) = number(1).filter(|_| value.first() == Some(&0x0a)) else { return false };
    let Some(end) = usize::try_from(key_bytes).ok().and_then(|len| key_at.checked_add(len)) else {
        return false;
    };
    if is_tombstone {
        return end == value.len();
    }
    let field = |tag: u8, at: usize| number(at + 1).filter(|_| value.get(at) == Some(&tag));
    let revision = field(0x10, end).and_then(|(_, next)| field(0x18, next));
    revision.is_some_and(|(revision, _)| revision.cast_signed() == main)
}

/// Buckets of etcd. A name that is none of these may still be a bucket's, and then that is not etcd's.
const NAMES: [&[u8]; 11] =
    [ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, KEY, LEASE, MEMBERS, MEMBERS_REMOVED, META, b"test"];

/// Whether `name` is one of etcd's buckets.
#[must_use]
pub(crate) fn is_bucket_name(name: &[u8]) -> bool {
    NAMES.contains(&name)
}

/// What the pairs of a leaf, given one by one, look like.
#[derive(Default)]
struct Votes {
    pairs: u32,
    revisions: u32,
    first: Option<Point>,
    last: Point,
    of_class: [u32; 11],
}

const CLASSES: [Class; 11] = [
    Class::Root,
    Class::Meta,
    Class::Lease,
    Class::Alarm,
    Class::Auth,
    Class::AuthUsers,
    Class::AuthRoles,
    Class::Members,
    Class::MembersRemoved,
    Class::Cluster,
    Class::Other,
];

impl Votes {
    #[inline]
    fn add_record(&mut self, point: Point) {
        self.pairs += 1;
        self.revisions += 1;
        // A damaged leaf's keys need not ascend.
        self.first = Some(self.first.map_or(point, |first| first.min(point)));
        self.last = self.last.max(point);
    }

    /// Of which revision it is is not known.
    fn add_odd(&mut self, key: &[u8], value: &[u8], is_bucket: bool) {
        if is_bucket || Point::parse(key).is_none() {
            self.add(key, value, is_bucket);
        } else {
            self.pairs += 1;
            self.revisions += 1;
        }
    }

    fn add(&mut self, key: &[u8], value: &[u8], is_bucket: bool) {
        if !is_bucket && let Some((point, _)) = Point::parse(key) {
            self.add_record(point);
            return;
        }
        self.pairs += 1;
        let class = of_pair(key, value, is_bucket);
        for (known, votes) in CLASSES.iter().zip(&mut self.of_class) {
            *votes += u32::from(*known == class);
        }
    }

    fn class(&self) -> Class {
        if self.revisions * 2 > self.pairs {
            return Class::Key;
        }
        let mut best = (0, Class::Other);
        for (class, votes) in CLASSES.iter().zip(self.of_class) {
            if votes > best.0 {
                best = (votes, *class);
            }
        }
        if best.0 * 2 > self.pairs { best.1 } else { Class::Other }
    }

    /// Whether there are records, and no row of another bucket of etcd, or no more of them: what is left of a leaf of records of which most
    /// was lost. The rest of it is no key of anything.
    fn has_records_alone(&self) -> bool {
        let others = CLASSES.iter().zip(self.of_class).filter(|(class, _)| **class != Class::Other);
        let others = others.map(|(_, votes)| votes).sum::<u32>();
        self.revisions > 0 && (others == 0 || self.revisions * 2 >= self.pairs)
    }

    fn span(&self) -> Option<(Point, Point)> {
        self.first.map(|first| (first, self.last))
    }
}

/// Of which bucket a pair is that is no record of a key.
fn of_pair(key: &[u8], value: &[u8], is_bucket: bool) -> Class {
    if is_bucket {
        return if is_bucket_name(key) { Class::Root } else { Class::Other };
    }
    const META_ROWS: [&[u8]; 6] =
        [CONSISTENT_INDEX, TERM, CONF_STATE, STORAGE_VERSION, SCHEDULED_COMPACT, FINISHED_COMPACT];
    if META_ROWS.contains(&key) {
        return Class::Meta;
    }
    if key == CLUSTER_VERSION || key == DOWNGRADE {
        return Class::Cluster;
    }
    if key == AUTH_ENABLED || key == AUTH_REVISION {
        return Class::Auth;
    }
    if let Ok(id) = <[u8; 8]>::try_from(key)
        && LeaseRow::decode(value).is_ok_and(|row| row.id == i64::from_be_bytes(id))
    {
        return Class::Lease;
    }
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if (1..=16).contains(&key.len()) && key.iter().all(is_hex) {
        if value == b"removed" {
            return Class::MembersRemoved;
        }
        if value.first() == Some(&b'{') && value.last() == Some(&b'}') {
            return Class::Members;
        }
    }
    if value.is_empty()
        && !key.is_empty()
        && Alarm::parse(key).is_some_and(|alarm| (1..=2).contains(&alarm.kind))
    {
        return Class::Alarm;
    }
    // A bcrypt hash, or none at all, is what tells a user from a role.
    if let Ok(user) = UserRow::decode(value)
        && user.name == key
        && (user.password.is_empty() || user.password.starts_with(b"$2"))
        && (!user.password.is_empty() || user.options.is_some() || !user.roles.is_empty())
    {
        return Class::AuthUsers;
    }
    if RoleRow::decode(value).is_ok_and(|role| role.name == key) {
        return Class::AuthRoles;
    }
    Class::Other
}

/// What a carved leaf holds. Its root is not asked for, so a leaf counts by itself.
pub(crate) fn judge(leaf: &Leaf<'_>) -> Judged {
    let mut votes = Votes::default();
    let (mut is_odd, mut is_far, mut broken_at) = (false, false, 0);
    let mut before: Option<Point> = None;
    // The first of a leaf can only be held against the one behind it.
    let mut open: Option<Point> = None;
    for (element, entry) in entries(leaf) {
        let Element { key, value, is_bucket, .. } = element;
        match entry {
            Entry::At(point, _) => {
                votes.add_record(point);
                if before.is_some_and(|before| !before.is_before(point)) {
                    broken_at = broken_at.max(point.main);
                }
                is_far |= open.take().is_some_and(|first| first.is_far_from(Some(point)));
                match before {
                    None => open = Some(point),
                    before => is_far |= point.is_far_from(before),
                }
                before = Some(point);
            }
            Entry::Odd => {
                is_odd = true;
                votes.add_odd(key, value, is_bucket);
            }
        }
    }
    let class = match votes.class() {
        Class::Other if votes.has_records_alone() => Class::Key,
        class => class,
    };
    let span = match class {
        Class::Key => votes.span(),
        Class::Root => inline_records(leaf).and_then(|(node, _)| {
            let mut votes = Votes::default();
            (0..node.count()).for_each(|at| votes.add(node.key(at), node.value(at), node.is_bucket(at)));
            votes.span()
        }),
        _ => None,
    };
    let is_key = class == Class::Key;
    is_far |= open.is_some_and(|first| first.is_far_from(None));
    Judged {
        class,
        span,
        is_odd: is_odd && is_key,
        is_far: is_far && is_key,
        broken_at: if is_key { broken_at } else { 0 },
    }
}

/// What a tree's leaf holds.
pub(crate) fn class_of(node: &Node<'_>) -> Class {
    let mut votes = Votes::default();
    for at in 0..node.count() {
        votes.add(node.key(at), node.value(at), node.is_bucket(at));
    }
    votes.class()
}

/// Length of a bucket's header in front of its inline page, in bytes (FORMATS A.5).
const BUCKET_HEADER_BYTES: usize = 16;

/// The records that stand in a root bucket's leaf, when bucket `key` is so small that it does, and where in the file the page
/// begins that they are on.
pub(crate) fn inline_records<'l>(leaf: &'l Leaf<'_>) -> Option<(Node<'l>, u64)> {
    let element = leaf.elements().find(|element| element.key == KEY && element.is_bucket)?;
    inline_page(&element)
}

/// The inline page of a bucket that stands in `element`, and where in the file it begins.
pub(crate) fn inline_page<'l>(element: &Element<'l>) -> Option<(Node<'l>, u64)> {
    let root = element.value.get(..8)?;
    let page = element.value.get(BUCKET_HEADER_BYTES..).filter(|page| page.len() >= HEADER_BYTES)?;
    if !element.is_whole() || root.iter().any(|byte| *byte != 0) {
        return None;
    }
    let offset = element.value_offset().saturating_add(BUCKET_HEADER_BYTES as u64);
    let node = Node::parse(page.into(), PageId(0), offset).ok()?;
    node.check_order().ok()?;
    Some((node, offset))
}

/// The user's key in what is there of a record: it comes first, so that it is whole in most of those that are not.
pub(crate) fn key_of_torn(record: &[u8]) -> Option<&[u8]> {
    let rest = record.strip_prefix(&[0x0a])?;
    let (mut len, mut shift, mut at) = (0usize, 0, 0);
    loop {
        let byte = *rest.get(at)?;
        at += 1;
        len |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            break;
        }
        shift += 7;
        // No key of a request that etcd takes is that long.
        if shift > 28 {
            return None;
        }
    }
    rest.get(at..at.checked_add(len)?).filter(|key| !key.is_empty())
}
