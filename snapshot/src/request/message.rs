//! Messages whose bytes were validated, and the walk over what lies in them.

use std::borrow::Cow;

use super::schema::{Field, Kind, Label, MessageType, Role};
use super::wire::{Fields, Item, Value, WireError};

/// How deep messages may lie in each other. Only transactions nest at will; etcd 3.7 refuses to read what is deeper
/// (the limit of Go's protobuf), and no server lets a client nest so deep.
pub const MAX_DEPTH: usize = 10_000;

/// A message that parses to its last nested field. Borrowed: a copy costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    kind: &'static MessageType,
    bytes: &'a [u8],
}

/// The bytes of a message that parses; owned only when they had to be put in order.
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    kind: &'static MessageType,
    bytes: Cow<'a, [u8]>,
    unknown: bool,
}

impl<'a> Parsed<'a> {
    /// Reads `bytes` as a message of this type, with all that lies in it.
    ///
    /// A message field that stands twice, which no server writes, is merged into one as the protobuf rules have it.
    ///
    /// # Errors
    /// Where etcd's parser would fail, and when messages lie deeper in each other than [`MAX_DEPTH`].
    pub fn new(kind: &'static MessageType, bytes: &'a [u8]) -> Result<Self, WireError> {
        let Seen { twice, unknown } = validate(kind, bytes)?;
        let bytes = if twice { Cow::Owned(merged(kind, bytes)?) } else { Cow::Borrowed(bytes) };
        Ok(Self { kind, bytes, unknown })
    }

    /// Whether there are fields in it that the tables do not have.
    #[must_use]
    pub fn has_unknown_fields(&self) -> bool {
        // Those of an alternative that another one replaced do not count.
        let is_unknown = |message: Message<'_>| message.items().any(|item| matches!(item, Item::Unknown(_)));
        self.unknown && self.message().walk().any(is_unknown)
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        Message { kind: self.kind, bytes: &self.bytes }
    }

    /// The message for as long as its input lives; `None` when it had to be put in order.
    #[must_use]
    pub const fn borrowed(&self) -> Option<Message<'a>> {
        match self.bytes {
            Cow::Borrowed(bytes) => Some(Message { kind: self.kind, bytes }),
            Cow::Owned(_) => None,
        }
    }
}

/// Which fields a message has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present {
    /// A bit for each place in the table.
    pub(super) places: u64,
    /// Whether there are fields the table does not have.
    pub(super) unknown: bool,
}

impl<'a> Message<'a> {
    /// A message that was validated as part of the one it lies in.
    pub(super) const fn validated(kind: &'static MessageType, bytes: &'a [u8]) -> Self {
        Self { kind, bytes }
    }

    /// The message's type.
    #[must_use]
    pub const fn kind(&self) -> &'static MessageType {
        self.kind
    }

    /// The message as it was written.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All fields in the order of the wire, repeated, replaced and unknown ones included.
    pub fn items(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let mut fields = Fields::new(self.kind, self.bytes);
        // The bytes were validated when this view was made, so there is no error to hide.
        std::iter::from_fn(move || fields.take().ok().flatten())
    }

    /// The last value of this field, which is the one that counts; `None` when it is not written.
    #[must_use]
    pub fn last(&self, number: i32) -> Option<Value<'a>> {
        self.items()
            .filter_map(|item| match item {
                Item::Known { field, value, .. } if field.number == number => Some(value),
                _ => None,
            })
            .last()
    }

    /// The number in this field, 0 when it is not written. Signed fields: `cast_signed`.
    #[must_use]
    pub fn number(&self, number: i32) -> u64 {
        match self.last(number) {
            Some(Value::Number(value)) => value,
            _ => 0,
        }
    }

    /// The enum in this field as servers keep it, 0 when it is not written.
    #[must_use]
    pub fn enumeration(&self, number: i32) -> i32 {
        enum_number(self.number(number))
    }

    /// The bytes of this field, empty when it is not written.
    #[must_use]
    pub fn data(&self, number: i32) -> &'a [u8] {
        match self.last(number) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The message in this field, unless another alternative replaced it.
    #[must_use]
    pub fn message(&self, number: i32) -> Option<Message<'a>> {
        self.messages_in(number).last()
    }

    /// The messages in this field.
    pub fn messages_in(&self, number: i32) -> impl Iterator<Item = Message<'a>> + use<'a> {
        self.children().filter(move |(field, _)| field.number == number).map(|(_, message)| message)
    }

    /// The messages right in this one, in the order of the wire; of alternatives only the one that counts.
    pub fn children(&self) -> impl Iterator<Item = (&'static Field, Message<'a>)> + use<'a> {
        let chosen = self.chosen();
        self.items().enumerate().filter_map(move |(at, item)| {
            let Item::Known { field, value: Value::Bytes(bytes), .. } = item else { return None };
            let Kind::Message(kind) = field.kind else { return None };
            let counts = field.label != Label::Oneof || chosen == Some(at);
            counts.then_some((field, Message { kind, bytes }))
        })
    }

    /// Which of the items is the alternative that counts.
    fn chosen(&self) -> Option<usize> {
        let alternatives = self.kind.fields.iter().any(|field| field.label == Label::Oneof);
        let is_one =
            |item: &Item<'_>| matches!(item, Item::Known { field, .. } if field.label == Label::Oneof);
        alternatives
            .then(|| self.items().enumerate().filter(|(_, item)| is_one(item)).map(|(at, _)| at).last())
            .flatten()
    }

    /// This message and all in it, each before those in it.
    #[must_use]
    pub fn walk(&self) -> Walk<'a> {
        Walk { first: Some(*self), stack: Vec::new() }
    }

    /// What is there, by the rules of the labels.
    pub(super) fn present(&self) -> Present {
        let mut present = Present::default();
        let mut alternative = None;
        for item in self.items() {
            match item {
                Item::Unknown(_) => present.unknown = true,
                Item::Known { place, field, value } => {
                    let bit = 1_u64 << place.min(63);
                    match field.label {
                        Label::Repeated | Label::Explicit => present.places |= bit,
                        Label::Oneof => alternative = Some(bit),
                        // A zero that comes last makes the field absent again.
                        Label::Singular => {
                            let zero = match value {
                                Value::Number(number) => is_zero(field.kind, number),
                                Value::Bytes(bytes) => {
                                    !matches!(field.kind, Kind::Message(_)) && bytes.is_empty()
                                }
                                Value::Packed(_) => false,
                            };
                            if zero {
                                present.places &= !bit;
                            } else {
                                present.places |= bit;
                            }
                        }
                    }
                }
            }
        }
        present.places |= alternative.unwrap_or_default();
        present
    }

    /// The values of the fields with this role, zeros left out.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = Value<'a>> + use<'a> {
        self.items().filter_map(move |item| match item {
            Item::Known { field, value, .. } if field.role == role && value != Value::Number(0) => {
                Some(value)
            }
            _ => None,
        })
    }
}

/// Whether this number is the zero of its kind; an enum is its low 32 bits.
fn is_zero(kind: Kind, number: u64) -> bool {
    match kind {
        Kind::Enum(_) => enum_number(number) == 0,
        _ => number == 0,
    }
}

/// An enum's value as servers keep it.
pub(super) fn enum_number(number: u64) -> i32 {
    let [low @ .., _, _, _, _] = number.to_le_bytes();
    i32::from_le_bytes(low)
}

/// A message and all in it; see [`Message::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    first: Option<Message<'a>>,
    stack: Vec<Level<'a>>,
}

#[derive(Debug)]
struct Level<'a> {
    fields: Fields<'a>,
    at: usize,
    chosen: Option<usize>,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, message: Message<'a>) -> Message<'a> {
        if message.kind.fields.iter().any(|field| matches!(field.kind, Kind::Message(_))) {
            let fields = Fields::new(message.kind, message.bytes);
            self.stack.push(Level { fields, at: 0, chosen: message.chosen() });
        }
        message
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        if let Some(first) = self.first.take() {
            return Some(self.enter(first));
        }
        loop {
            let level = self.stack.last_mut()?;
            let Ok(Some(item)) = level.fields.take() else {
                self.stack.pop();
                continue;
            };
            let at = level.at;
            level.at += 1;
            if let Item::Known { field, value: Value::Bytes(bytes), .. } = item
                && let Kind::Message(kind) = field.kind
                && (field.label != Label::Oneof || level.chosen == Some(at))
            {
                return Some(self.enter(Message { kind, bytes }));
            }
        }
    }
}

/// What is odd about a message that parses.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// A message that may stand once stands twice.
    twice: bool,
    /// There are fields that the tables do not have.
    unknown: bool,
}

/// Reads `bytes` to the last nested field.
fn validate(kind: &'static MessageType, bytes: &[u8]) -> Result<Seen, WireError> {
    let mut odd = Seen::default();
    // Most requests are two levels deep.
    let mut stack = Vec::with_capacity(4);
    stack.push((Fields::new(kind, bytes), 0_u64));
    while let Some((fields, seen)) = stack.last_mut() {
        match fields.take()? {
            None => {
                stack.pop();
            }
            Some(Item::Known { place, field, value: Value::Bytes(bytes) }) => {
                let Kind::Message(kind) = field.kind else { continue };
                if field.label == Label::Singular {
                    let bit = 1_u64 << place.min(63);
                    odd.twice |= *seen & bit != 0;
                    *seen |= bit;
                }
                if stack.len() >= MAX_DEPTH {
                    return Err(WireError::TooDeep { depth: MAX_DEPTH });
                }
                stack.push((Fields::new(kind, bytes), 0));
            }
            Some(Item::Unknown(_)) => odd.unknown = true,
            Some(Item::Known { .. }) => {}
        }
    }
    Ok(odd)
}

/// The same message with each message field that may stand once standing once.
///
/// It calls itself for such fields only, and [`super::schema`] has no cycle of them: transactions nest by repeated fields.
fn merged(kind: &'static MessageType, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut once: Vec<(&'static Field, Vec<u8>)> = Vec::new();
    let mut fields = Fields::new(kind, bytes);
    loop {
        let before = fields.rest();
        let Some(item) = fields.take()? else { break };
        if let Item::Known { field, value: Value::Bytes(value), .. } = item
            && matches!(field.kind, Kind::Message(_))
            && field.label == Label::Singular
        {
            match once.iter_mut().find(|(known, _)| known.number == field.number) {
                Some((_, all)) => all.extend_from_slice(value),
                None => once.push((field, value.to_vec())),
            }
        } else {
            let len = before.len() - fields.rest().len();
            out.extend_from_slice(before.get(..len).unwrap_or_default());
        }
    }
    for (field, all) in once {
        let Kind::Message(kind) = field.kind else { continue };
        let all = merged(kind, &all)?;
        let key = (u64::from(field.number.unsigned_abs()) << 3) | 2;
        put_varint(key, &mut out);
        put_varint(u64::try_from(all.len()).unwrap_or(u64::MAX), &mut out);
        out.extend_from_slice(&all);
    }
    Ok(out)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}
