//! Files of the streaming writer: whatever it is told, in whatever shape the pages come out.

use bbolt::{Build, BuildError, BuildOptions, Built, Db, FreelistSync, check};

use crate::db;

/// What a file holds, as a walk in key order meets it.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Begin { name: Vec<u8>, sequence: u64 },
    Put { key: Vec<u8>, value: Vec<u8> },
    End,
}

/// Most bytes of keys and values in one file, so that an input takes milliseconds.
const MOST_BYTES: usize = 1 << 20;
/// Most buckets open at a time.
const MOST_OPEN: usize = 40;
/// The first top-level buckets, whose names [`db::edit`] knows.
const NAMES: [&[u8]; 3] = [b"key", b"lease", b"meta"];

/// An open bucket, or the root bucket.
struct Level {
    /// Where it begins in the events.
    at: usize,
    name: Vec<u8>,
    number: u64,
    last: Vec<u8>,
}

/// A program in progress: what the writer was told and what it has to hold.
struct Program<'f> {
    build: Build<&'f mut Vec<u8>>,
    events: Vec<Event>,
    levels: Vec<Level>,
    left_bytes: usize,
}

impl Program<'_> {
    fn level(&mut self) -> &mut Level {
        let Some(level) = self.levels.last_mut() else { panic!("the root bucket is never ended") };
        level
    }

    fn is_top(&self) -> bool {
        self.levels.len() == 1
    }

    /// The next key of the open bucket.
    fn key(&mut self, len: usize) -> Vec<u8> {
        let level = self.level();
        level.number += 1;
        let mut key = level.number.to_be_bytes().to_vec();
        key.resize(len.max(key.len()), b'k');
        key
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), BuildError> {
        self.build.put(&key, &value)?;
        self.level().last.clone_from(&key);
        self.events.push(Event::Put { key, value });
        Ok(())
    }

    fn begin(&mut self, sequence: u64) -> Result<(), BuildError> {
        let key = self.key(0);
        let name = match usize::try_from(self.level().number - 1).ok().and_then(|i| NAMES.get(i)) {
            Some(name) if self.is_top() => name.to_vec(),
            _ if self.is_top() => [b"n", key.as_slice()].concat(),
            _ => key,
        };
        self.build.begin_bucket(&name)?;
        self.build.set_sequence(sequence);
        self.levels.push(Level { at: self.events.len(), name: name.clone(), number: 0, last: Vec::new() });
        self.events.push(Event::Begin { name, sequence });
        Ok(())
    }

    fn end(&mut self) -> Result<(), BuildError> {
        self.build.end_bucket()?;
        if let Some(level) = self.levels.pop() {
            // A bucket that is discarded instead leaves its name free.
            self.level().last = level.name;
        }
        self.events.push(Event::End);
        Ok(())
    }

    fn discard(&mut self) -> Result<(), BuildError> {
        self.build.discard_bucket()?;
        if let Some(level) = self.levels.pop() {
            self.events.truncate(level.at);
        }
        Ok(())
    }

    /// One step, three bytes of the input. False when it had to be refused and was, which ends the build.
    fn step(&mut self, kind: u8, size: u8, more: u8) -> Result<bool, BuildError> {
        let (size, more) = (usize::from(size), usize::from(more));
        match kind & 7 {
            0..=2 if self.is_top() => {}
            0..=2 => {
                // Keys and values from nothing to several pages.
                let scale = usize::from(kind >> 3);
                let (key_bytes, value_bytes) = (8 + scale * scale, more * scale);
                for index in 0..size {
                    let value = vec![kind; if index % 3 == 0 { value_bytes } else { value_bytes / 7 }];
                    let len = key_bytes + value.len() + 16;
                    let Some(left_bytes) = self.left_bytes.checked_sub(len) else { break };
                    self.left_bytes = left_bytes;
                    let key = self.key(key_bytes);
                    self.put(key, value)?;
                }
            }
            3 if self.levels.len() < MOST_OPEN => self.begin(more as u64)?,
            4 if !self.is_top() => self.end()?,
            5 if !self.is_top() => self.discard()?,
            6 => return self.anything(size, more, kind & 8 != 0),
            _ => {}
        }
        Ok(true)
    }

    /// Any key, one that must be refused among them.
    fn anything(&mut self, size: usize, more: usize, is_bucket: bool) -> Result<bool, BuildError> {
        let is_top = self.is_top();
        let level = self.level();
        let number = (level.number + size as u64).saturating_sub(128);
        let key = number.to_be_bytes()[..more % 9].to_vec();
        let is_wrong = key.is_empty() || level.last >= key || (is_top && !is_bucket);
        if !is_wrong {
            level.number = number.max(level.number);
            if !is_bucket {
                return self.put(key, Vec::new()).map(|()| true);
            }
            // Left out again, so that it only takes the way of a name.
            self.build.begin_bucket(&key)?;
            self.build.discard_bucket()?;
            return Ok(true);
        }
        let result = if is_bucket { self.build.begin_bucket(&key) } else { self.build.put(&key, b"") };
        let refused = matches!(
            result,
            Err(BuildError::NotAscending { .. }
                | BuildError::Element { .. }
                | BuildError::ValueAtTopLevel { .. })
        );
        assert!(refused, "{key:?} behind {:?} was taken: {result:?}", self.level().last);
        assert!(matches!(self.build.put(&[0xFF; 9], b""), Err(BuildError::AfterError)));
        Ok(false)
    }
}

/// Builds what the input says into `file`: four bytes of options, then steps of three. `None` when something in it had
/// to be refused.
fn run(bytes: &[u8], file: &mut Vec<u8>) -> Option<(Built, Vec<Event>)> {
    let (head, steps) = bytes.split_at_checked(4)?;
    let options = BuildOptions {
        page_size: 1024 << (head[0] % 7),
        leaf_fill_percent: 10 + head[1] % 91,
        freelist: if head[2] & 1 == 0 { FreelistSync::NotPersisted } else { FreelistSync::Persisted },
        txid: u64::from(head[3]) + 1,
    };
    let build = match Build::new(&mut *file, options) {
        Ok(build) => build,
        Err(error) => panic!("{options:?}: {error}"),
    };
    let root = Level { at: 0, name: Vec::new(), number: 0, last: Vec::new() };
    let mut program = Program { build, events: Vec::new(), levels: vec![root], left_bytes: MOST_BYTES };
    for step in steps.chunks_exact(3) {
        match program.step(step[0], step[1], step[2]) {
            Ok(true) => {}
            Ok(false) => {
                assert!(matches!(program.build.finish(), Err(BuildError::AfterError)));
                return None;
            }
            Err(error) => panic!("refused without a reason: {error}"),
        }
    }
    while !program.is_top() {
        if let Err(error) = program.end() {
            panic!("a bucket cannot be ended: {error}");
        }
    }
    match program.build.finish() {
        Ok(built) => Some((built, program.events)),
        Err(error) => panic!("the file cannot be finished: {error}"),
    }
}

/// Everything in the file, by cursor.
fn read(file: &[u8]) -> Result<Vec<Event>, Box<dyn std::error::Error>> {
    let db = Db::from_source(file)?;
    let mut events = Vec::new();
    let mut cursors = vec![db.root().cursor()];
    while let Some(cursor) = cursors.last_mut() {
        let Some(item) = cursor.next()? else {
            cursors.pop();
            if !cursors.is_empty() {
                events.push(Event::End);
            }
            continue;
        };
        let (name, value) = (item.key.to_vec(), item.value.to_vec());
        match cursor.bucket()? {
            None => events.push(Event::Put { key: name, value }),
            Some(bucket) => {
                events.push(Event::Begin { name, sequence: bucket.sequence() });
                cursors.push(bucket.cursor());
            }
        }
    }
    Ok(events)
}

/// Pairs and buckets to a file and back: it is sound and holds what was put in. What is out of order is refused, and
/// leaves no database.
pub(crate) fn round_trip(bytes: &[u8]) {
    let mut file = Vec::new();
    let Some((built, events)) = run(bytes, &mut file) else {
        assert!(Db::from_source(file.as_slice()).is_err(), "an error left a database behind");
        return;
    };
    assert_eq!(built.len_bytes, file.len() as u64);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &file);
    assert_eq!(crc, u64::from(built.crc32c), "the checksum of the file");
    match Db::from_source(file.as_slice()) {
        Ok(db) => {
            let report = check(&db, &());
            assert!(report.findings.is_empty(), "the file is not sound: {:?}", report.findings.first());
            assert!(db.metas().iter().all(Result::is_ok), "{:?}", db.metas());
        }
        Err(error) => panic!("the file cannot be opened: {error}"),
    }
    match read(&file) {
        Ok(found) => assert!(found == events, "the file holds something else"),
        Err(error) => panic!("the file cannot be read: {error}"),
    }
}

/// A file of the streaming writer, edited by the other one: the input is a list of edits, a zero byte, and the
/// program.
pub(crate) fn graft_after(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (edits, rest) = bytes.split_at(end);
    let mut file = Vec::new();
    if run(rest.get(1..).unwrap_or_default(), &mut file).is_some() {
        let made = db::edit(edits, &file);
        assert!(made.is_some(), "a file of the streaming writer cannot be edited");
    }
}
