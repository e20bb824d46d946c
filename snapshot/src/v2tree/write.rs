//! The JSON of a tree, byte for byte as a server writes it into a `.snap`.

use bbolt::gojson;

use super::node::{Id, ROOT};
use super::{V2Tree, V2TreeError};
use crate::gotime::Time;
use crate::snap_files::MOST_SNAP_BYTES;

/// A step of the walk: a node to write, or the end of one.
enum Step {
    Node { id: Id, is_first: bool },
    End { path_len: usize },
}

impl V2Tree {
    /// The JSON of the store: the `data` of a raft snapshot.
    ///
    /// Equal to the byte to what a server writes that has the same history, but for what no file tells: the clock, in the seconds
    /// that an event says were left (left out here) and the time zone of what expires (UTC here), and how often a server read its own
    /// members. Servers built by Go before 1.22 escape backspace and form feed in another way (see [`gojson`]).
    ///
    /// # Errors
    /// When it is longer than any `.snap` that is read ([`MOST_SNAP_BYTES`]).
    pub fn to_json(&self) -> Result<Vec<u8>, V2TreeError> {
        let json = self.json();
        let is_readable = u64::try_from(json.len()).is_ok_and(|len| len <= MOST_SNAP_BYTES);
        if is_readable { Ok(json) } else { Err(V2TreeError::TooLong) }
    }

    /// As [`V2Tree::to_json`]; what is longer than that is cut short.
    pub(crate) fn json(&self) -> Vec<u8> {
        let is_full = |out: &[u8]| u64::try_from(out.len()).is_ok_and(|len| len > MOST_SNAP_BYTES);
        let mut out = b"{\"Root\":".to_vec();
        let mut path: Vec<u8> = Vec::new();
        let mut steps = vec![Step::Node { id: ROOT, is_first: true }];
        while let Some(step) = steps.pop() {
            if is_full(&out) {
                return out;
            }
            let (id, is_first) = match step {
                Step::Node { id, is_first } => (id, is_first),
                Step::End { path_len } => {
                    out.extend_from_slice(b"}}");
                    path.truncate(path_len);
                    continue;
                }
            };
            let node = &self.nodes[id];
            let path_len = path.len();
            if id != ROOT {
                if !is_first {
                    out.push(b',');
                }
                gojson::push_string(&mut out, &node.name);
                out.push(b':');
                path.push(b'/');
                path.extend_from_slice(&node.name);
            }
            out.extend_from_slice(b"{\"Path\":");
            gojson::push_string(&mut out, if path.is_empty() { b"/" } else { &path });
            for (name, index) in
                [(&b",\"CreatedIndex\":"[..], node.created), (b",\"ModifiedIndex\":", node.modified)]
            {
                out.extend_from_slice(name);
                gojson::push_u64(&mut out, index);
            }
            out.extend_from_slice(b",\"ExpireTime\":");
            gojson::push_string(&mut out, node.expires.unwrap_or(Time::ZERO).to_string().as_bytes());
            out.extend_from_slice(b",\"Value\":");
            gojson::push_string(&mut out, &node.value);
            out.extend_from_slice(b",\"Children\":");
            let Some(children) = &node.children else {
                out.extend_from_slice(b"null}");
                path.truncate(path_len);
                continue;
            };
            out.push(b'{');
            steps.push(Step::End { path_len });
            let at = steps.len();
            let ids = children.values().enumerate();
            steps.extend(ids.map(|(at, id)| Step::Node { id: *id, is_first: at == 0 }));
            steps.get_mut(at..).unwrap_or_default().reverse();
        }
        out.extend_from_slice(b",\"WatcherHub\":");
        self.history.write(&mut out);
        out.extend_from_slice(b",\"CurrentIndex\":");
        gojson::push_u64(&mut out, self.current_index);
        out.extend_from_slice(b",\"Stats\":");
        self.stats.write(&mut out);
        out.extend_from_slice(b",\"CurrentVersion\":");
        out.extend_from_slice(self.version.to_string().as_bytes());
        out.push(b'}');
        out
    }
}
