//! The walk that every printed form shares: fields in declared order, the last of several, explicit stack.

use super::message::{Message, Present};
use super::schema::{Field, Kind, Label, Role, V2_REQUEST};
use super::v2;
use super::wire::{Fields, Item, Value};

/// How values are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Values are cut after this many bytes; keys never are. `None` shows all of them.
    pub cut: Option<usize>,
    /// Show passwords, and the hashes that stand for them.
    pub show_secrets: bool,
}

/// What stands in place of a password, in etcd's own words.
pub const REMOVED: &str = "<value removed>";

/// A value's bytes, as far as they are to be shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) bytes: &'a [u8],
    /// The value's whole length, when it was cut.
    pub(super) cut_from: Option<usize>,
}

impl Style {
    /// `bytes` as this style shows them in `field`; `hidden` when they are a secret.
    pub(super) fn shown<'a>(&self, field: &Field, bytes: &'a [u8], hidden: bool) -> Shown<'a> {
        if hidden && !self.show_secrets && !bytes.is_empty() {
            return Shown { bytes: REMOVED.as_bytes(), cut_from: None };
        }
        let cuttable = !matches!(field.role, Role::Key | Role::RangeEnd);
        match self.cut {
            Some(cut) if cuttable && bytes.len() > cut => {
                Shown { bytes: bytes.get(..cut).unwrap_or(bytes), cut_from: Some(bytes.len()) }
            }
            _ => Shown { bytes, cut_from: None },
        }
    }
}

/// What prints.
pub(super) trait Sink {
    /// A repeated field begins.
    fn begin_list(&mut self, field: &'static Field);
    /// It ends.
    fn end_list(&mut self);
    /// A message begins, in a list or by itself.
    fn begin(&mut self, field: &'static Field, listed: bool);
    /// It ends.
    fn end(&mut self);
    /// A number, enum or bool.
    fn number(&mut self, field: &'static Field, value: u64, listed: bool);
    /// Bytes or text; `hidden` when they are a secret.
    fn bytes(&mut self, field: &'static Field, value: &[u8], listed: bool, hidden: bool);
    /// The message has fields that the table does not have.
    fn unknown(&mut self, message: Message<'_>);
}

struct Level<'a> {
    message: Message<'a>,
    present: Present,
    list: Option<(usize, Fields<'a>)>,
    /// Whether the values of this message are secret.
    secret: bool,
}

impl<'a> Level<'a> {
    fn new(message: Message<'a>) -> Self {
        let secret = std::ptr::eq(message.kind(), &raw const V2_REQUEST) && v2::holds_password(message);
        Self { message, present: message.present(), list: None, secret }
    }
}

/// Shows `message` to `sink`.
pub(super) fn drive(message: Message<'_>, sink: &mut impl Sink) {
    let mut stack = Vec::with_capacity(4);
    stack.push(Level::new(message));
    while let Some(level) = stack.last_mut() {
        let (field, value, listed) = if let Some((place, fields)) = &mut level.list {
            let place = *place;
            let found = loop {
                match fields.take() {
                    Ok(Some(Item::Known { place: at, field, value })) if at == place => {
                        break Some((field, value));
                    }
                    Ok(Some(_)) => {}
                    _ => break None,
                }
            };
            let Some((field, value)) = found else {
                level.list = None;
                sink.end_list();
                continue;
            };
            (field, value, true)
        } else if level.present.places != 0 {
            let place = usize::try_from(level.present.places.trailing_zeros()).unwrap_or_default();
            level.present.places &= level.present.places - 1;
            let Some(field) = level.message.kind().fields.get(place) else { continue };
            if field.label == Label::Repeated {
                level.list = Some((place, Fields::new(level.message.kind(), level.message.bytes())));
                sink.begin_list(field);
                continue;
            }
            let Some(value) = level.message.last(field.number) else { continue };
            (field, value, false)
        } else {
            if level.present.unknown {
                sink.unknown(level.message);
            }
            stack.pop();
            if !stack.is_empty() {
                sink.end();
            }
            continue;
        };
        match (value, field.kind) {
            (Value::Number(number), _) => sink.number(field, number, listed),
            (Value::Packed(numbers), _) => {
                for number in super::wire::packed(numbers) {
                    sink.number(field, number, listed);
                }
            }
            (Value::Bytes(bytes), Kind::Message(kind)) => {
                sink.begin(field, listed);
                stack.push(Level::new(Message::validated(kind, bytes)));
            }
            (Value::Bytes(bytes), _) => {
                let hidden = field.role == Role::Secret || (level.secret && field.role == Role::Value);
                sink.bytes(field, bytes, listed, hidden);
            }
        }
    }
}
