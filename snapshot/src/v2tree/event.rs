//! What happened to the store: the last thousand events, which it keeps for those who ask what they missed.

use std::borrow::Cow;
use std::sync::Arc;

use bbolt::gojson;

use super::V2TreeError;
use super::json::{JsonError, Reader};
use crate::gotime::Time;

/// How many events a store keeps that nobody has configured otherwise, which nobody can.
const CAPACITY: usize = 1000;

/// A node as a client is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Arc<[u8]>>,
    pub(super) is_dir: bool,
    pub(super) expires: Option<Time>,
    /// Seconds that were left, by the clock of whoever applied the request. No file says what that clock showed, so that events of
    /// ours have none.
    pub(super) ttl_seconds: i64,
    pub(super) modified: u64,
    pub(super) created: u64,
}

impl Told {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, JsonError> {
        if reader.null() {
            return Ok(None);
        }
        reader.object()?;
        let (mut told, mut is_first) = (Self::default(), true);
        while let Some(key) = reader.key(&mut is_first)? {
            if reader.null() {
                continue;
            }
            match key.as_ref() {
                b"key" => told.key = reader.string()?.into_owned(),
                b"value" => told.value = Some(Arc::from(reader.string()?.as_ref())),
                b"dir" => told.is_dir = reader.boolean()?,
                b"expiration" => {
                    let text = reader.string()?;
                    told.expires = Some(Time::parse(&text).ok_or_else(|| reader.error("a time"))?);
                }
                b"ttl" => told.ttl_seconds = reader.signed()?,
                b"modifiedIndex" => told.modified = reader.unsigned()?,
                b"createdIndex" => told.created = reader.unsigned()?,
                // An event has no nodes below its own: it is about one.
                _ => reader.skip()?,
            }
        }
        Ok(Some(told))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut comma = b'{';
        let mut field = |name: &str, out: &mut Vec<u8>| {
            out.push(std::mem::replace(&mut comma, b','));
            gojson::push_string(out, name.as_bytes());
            out.push(b':');
        };
        if !self.key.is_empty() {
            field("key", out);
            gojson::push_string(out, &self.key);
        }
        if let Some(value) = &self.value {
            field("value", out);
            gojson::push_string(out, value);
        }
        if self.is_dir {
            field("dir", out);
            out.extend_from_slice(b"true");
        }
        if let Some(expires) = &self.expires {
            field("expiration", out);
            gojson::push_string(out, expires.to_string().as_bytes());
        }
        if self.ttl_seconds != 0 {
            field("ttl", out);
            out.extend_from_slice(self.ttl_seconds.to_string().as_bytes());
        }
        for (name, number) in [("modifiedIndex", self.modified), ("createdIndex", self.created)] {
            if number != 0 {
                field(name, out);
                gojson::push_u64(out, number);
            }
        }
        if comma == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) action: Cow<'static, [u8]>,
    pub(super) node: Option<Told>,
    pub(super) previous: Option<Told>,
    /// Whether only the time to live was set anew, of which nobody is told.
    pub(super) is_refresh: bool,
}

impl Event {
    pub(super) fn of(action: &'static str, node: Told) -> Self {
        Self { action: Cow::Borrowed(action.as_bytes()), node: Some(node), previous: None, is_refresh: false }
    }

    fn index(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.modified)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, JsonError> {
        if reader.null() {
            return Ok(None);
        }
        reader.object()?;
        let (mut event, mut is_first) = (Self::default(), true);
        while let Some(key) = reader.key(&mut is_first)? {
            match key.as_ref() {
                b"action" => event.action = Cow::Owned(reader.string()?.into_owned()),
                b"node" => event.node = Told::read(reader)?,
                b"prevNode" => event.previous = Told::read(reader)?,
                b"refresh" => event.is_refresh = reader.boolean()?,
                _ => reader.skip()?,
            }
        }
        Ok(Some(event))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"action\":");
        gojson::push_string(out, &self.action);
        for (name, told) in [(&b",\"node\":"[..], &self.node), (b",\"prevNode\":", &self.previous)] {
            if let Some(told) = told {
                out.extend_from_slice(name);
                told.write(out);
            }
        }
        if self.is_refresh {
            out.extend_from_slice(b",\"refresh\":true");
        }
        out.push(b'}');
    }
}

/// The ring of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    slots: Vec<Option<Event>>,
    size: usize,
    front: usize,
    back: usize,
    start_index: u64,
    last_index: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { slots: vec![None; CAPACITY], size: 0, front: 0, back: 0, start_index: 0, last_index: 0 }
    }
}

impl History {
    /// Adds an event; the oldest goes when the ring is full.
    pub(super) fn add(&mut self, event: Event) {
        let capacity = self.slots.len();
        self.last_index = event.index();
        if let Some(slot) = self.slots.get_mut(self.back) {
            *slot = Some(event);
        }
        let next = |at: usize| if at + 1 >= capacity { 0 } else { at + 1 };
        self.back = next(self.back);
        if self.size >= capacity {
            self.front = next(self.front);
        } else {
            self.size += 1;
        }
        self.start_index = self.slots.get(self.front).and_then(Option::as_ref).map_or(0, Event::index);
    }

    /// Reads the watcher hub of a store, of which these are what is kept.
    ///
    /// # Errors
    /// When it is none, or its ring of events does not hold together.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, V2TreeError> {
        let mut history = Self::default();
        if reader.null() {
            return Ok(history);
        }
        reader.object()?;
        let mut is_first = true;
        while let Some(key) = reader.key(&mut is_first)? {
            if key.as_ref() == b"EventHistory" && !reader.null() {
                history.read_ring(reader)?;
            } else if key.as_ref() != b"EventHistory" {
                reader.skip()?;
            }
        }
        Ok(history)
    }

    fn read_ring(&mut self, reader: &mut Reader<'_>) -> Result<(), V2TreeError> {
        reader.object()?;
        let mut is_first = true;
        while let Some(key) = reader.key(&mut is_first)? {
            match key.as_ref() {
                b"Queue" => self.read_queue(reader)?,
                b"StartIndex" => self.start_index = reader.unsigned()?,
                b"LastIndex" => self.last_index = reader.unsigned()?,
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn read_queue(&mut self, reader: &mut Reader<'_>) -> Result<(), V2TreeError> {
        let mut capacity = CAPACITY;
        let count = |reader: &mut Reader<'_>| -> Result<usize, JsonError> {
            usize::try_from(reader.unsigned()?).map_err(|_| reader.error("a place in a ring of events"))
        };
        reader.object()?;
        let mut is_first = true;
        while let Some(key) = reader.key(&mut is_first)? {
            match key.as_ref() {
                b"Events" => {
                    self.slots.clear();
                    reader.array()?;
                    let mut is_first = true;
                    while reader.item(&mut is_first)? {
                        self.slots.push(Event::read(reader)?);
                    }
                }
                b"Size" => self.size = count(reader)?,
                b"Front" => self.front = count(reader)?,
                b"Back" => self.back = count(reader)?,
                b"Capacity" => capacity = count(reader)?,
                _ => reader.skip()?,
            }
        }
        // A server that meets such a ring dies with the next event.
        let is_whole = capacity == self.slots.len() && capacity > 0;
        let is_ring = self.size <= capacity && self.front < capacity && self.back < capacity;
        if is_whole && is_ring { Ok(()) } else { Err(V2TreeError::History) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"EventHistory\":{\"Queue\":{\"Events\":[");
        for (at, slot) in self.slots.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match slot {
                Some(event) => event.write(out),
                None => out.extend_from_slice(b"null"),
            }
        }
        let number = |number: usize| number as u64;
        for (name, number) in [
            (&b"],\"Size\":"[..], number(self.size)),
            (b",\"Front\":", number(self.front)),
            (b",\"Back\":", number(self.back)),
            (b",\"Capacity\":", number(self.slots.len())),
            (b"},\"StartIndex\":", self.start_index),
            (b",\"LastIndex\":", self.last_index),
        ] {
            out.extend_from_slice(name);
            gojson::push_u64(out, number);
        }
        out.extend_from_slice(b"}}");
    }
}
