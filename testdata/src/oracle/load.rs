//! Clients that write without a pause, and keep a list of what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::server::Server;
use crate::base64;
use crate::damage::Rng;

/// What marks a request: no two have the same, and it stands in the data of the log's entry.
pub type Tag = String;

/// What stands before a tag and behind it: among the bytes of a request are lengths, so that one byte would not do.
const OPENS: &[u8] = b"<tag ";
const CLOSES: u8 = b'>';

/// The tag of the request that an entry of the log carries, if it is one of a [`Load`].
#[must_use]
pub fn tag_in(data: &[u8]) -> Option<Tag> {
    let start = data.windows(OPENS.len()).position(|window| window == OPENS)? + OPENS.len();
    let len = data[start..].iter().position(|byte| *byte == CLOSES)?;
    String::from_utf8(data[start..start + len].to_vec()).ok()
}

/// The tag as it stands in a request.
#[must_use]
pub fn marked(tag: &str) -> Vec<u8> {
    [OPENS, tag.as_bytes(), &[CLOSES]].concat()
}

/// A write that the cluster acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its tag.
    pub tag: Tag,
    /// The revision it made.
    pub revision: i64,
    /// What it wrote, in the order of its sub-revisions: a key and its value, or none where it was deleted.
    pub effect: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<Acknowledged>>>,
}

impl Load {
    /// Starts `clients` clients. Each stays with one member until that breaks off or refuses, and then goes to the next. Keys and
    /// tags begin with `name`.
    #[must_use]
    pub fn start(members: &[Server], clients: usize, name: &str) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let writers = (0..clients)
            .map(|client| {
                let mut writer = Writer {
                    gateways: members.iter().map(Gateway::to).collect(),
                    at: client % members.len(),
                    rng: Rng::seeded_by(&format!("{name} {client}")),
                    name: format!("{name}.{client}"),
                    written: 0,
                    own: Vec::new(),
                };
                let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
                thread::spawn(move || {
                    let mut acknowledged = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(one) = writer.step() {
                            acknowledged.push(one);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        Self { stop, count, writers }
    }

    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends the clients, after the members they ask were killed, and returns every write that was acknowledged.
    #[must_use]
    pub fn end(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().expect("a client only reports")).collect()
    }
}

/// One client.
#[derive(Debug)]
struct Writer {
    gateways: Vec<Gateway>,
    at: usize,
    rng: Rng,
    name: String,
    written: u64,
    /// Its keys that are there for certain: nobody else touches them.
    own: Vec<Vec<u8>>,
}

/// How long a client waits before it goes to another member.
const PAUSE: Duration = Duration::from_millis(3);

fn text(bytes: &[u8]) -> String {
    base64::encode(bytes)
}

impl Writer {
    fn tag(&mut self) -> Tag {
        self.written += 1;
        format!("{}.{}", self.name, self.written)
    }

    /// A value that carries the tag; some reach over several sectors of the log.
    fn value(&mut self, tag: &Tag) -> Vec<u8> {
        let len = match self.rng.below(30) {
            0 => 6000,
            1 | 2 => 1200,
            _ => self.rng.below(80),
        };
        let mut value = marked(tag);
        value.extend((0..len).map(|at| b'a' + u8::try_from(at % 26).expect("a letter")));
        value
    }

    /// A key of its own: a new one, or one that was put before.
    fn key(&mut self) -> Vec<u8> {
        if self.own.is_empty() || self.rng.below(4) > 0 {
            return format!("{}/{}", self.name, self.written).into_bytes();
        }
        let at = usize::try_from(self.rng.next_u64()).expect("64 bits") % self.own.len();
        self.own.swap_remove(at)
    }

    /// One request; `None` when nobody knows what became of it.
    fn step(&mut self) -> Option<Acknowledged> {
        let tag = self.tag();
        let (path, body, effect) = match self.rng.below(10) {
            0 if !self.own.is_empty() => {
                let at = usize::try_from(self.rng.next_u64()).expect("64 bits") % self.own.len();
                let key = self.own.swap_remove(at);
                // A range that holds this key alone, and whose end carries the tag.
                let end = [key.as_slice(), b"\0", &marked(&tag)].concat();
                (
                    "/v3/kv/deleterange",
                    json!({ "key": text(&key), "range_end": text(&end) }),
                    vec![(key, None)],
                )
            }
            1 => {
                let pairs = [0, 1].map(|_| (self.key(), self.value(&tag)));
                if pairs[0].0 == pairs[1].0 {
                    return None;
                }
                let puts = pairs.clone().map(
                    |(key, value)| json!({ "request_put": { "key": text(&key), "value": text(&value) } }),
                );
                (
                    "/v3/kv/txn",
                    json!({ "success": puts }),
                    pairs.map(|(key, value)| (key, Some(value))).to_vec(),
                )
            }
            _ => {
                let (key, value) = (self.key(), self.value(&tag));
                ("/v3/kv/put", json!({ "key": text(&key), "value": text(&value) }), vec![(key, Some(value))])
            }
        };
        let answer = match self.gateways[self.at].attempt(path, &body) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                self.at = (self.at + 1) % self.gateways.len();
                thread::sleep(PAUSE);
                return None;
            }
        };
        self.own.extend(effect.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()));
        Some(Acknowledged { tag, revision: revision_of(&answer), effect })
    }
}

fn revision_of(answer: &Value) -> i64 {
    let text = answer["header"]["revision"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|e| panic!("{answer}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::{marked, tag_in};

    #[test]
    fn tags_are_found_in_what_surrounds_them() {
        let data = [b"\x22<\x0akey\0", marked("r1.2.3").as_slice(), b"> \x12"].concat();
        assert_eq!(tag_in(&data), Some("r1.2.3".to_owned()));
        assert_eq!(tag_in(b"no tag"), None);
        assert_eq!(tag_in(b"half a <tag r1"), None);
    }
}
