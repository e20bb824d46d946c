//! Values: JSON objects of Kubernetes with text in them that compresses about as well as the real thing.

use std::io::Write;

use crate::names::Place;
use crate::random::{Random, purpose};

/// What the text is made of. No character of it needs escaping in JSON.
const WORDS: [&str; 28] = [
    "image=registry.example/team/app:v1.",
    "cpu=250m ",
    "memory=512Mi ",
    "readinessProbe ",
    "livenessProbe ",
    "containerPort=8080 ",
    "protocol=TCP ",
    "terminationGracePeriodSeconds=30 ",
    "restartPolicy=Always ",
    "lastTransitionTime=2024-05-",
    "status=True ",
    "type=Ready ",
    "reason=ContainersReady ",
    "ownerReferences ",
    "app.kubernetes.io/name=",
    "app.kubernetes.io/instance=",
    "pod-template-hash=",
    "resourceVersion=",
    "mountPath=/var/run/secrets ",
    "serviceAccountName=default ",
    "nodeName=worker-",
    "tolerations ",
    "topologySpreadConstraints ",
    "maxSurge=25% ",
    "observedGeneration=",
    "f:metadata f:labels f:spec ",
    "configMapKeyRef ",
    "imagePullPolicy=IfNotPresent ",
];
/// Length of the text pieces are cut from, a power of two, in bytes.
const POOL_BYTES: usize = 1 << 16;
/// Longest piece cut from it, in bytes.
const LONGEST_PIECE: usize = 127;
/// Bytes that cannot be guessed, after every piece.
const FRESH_BYTES: usize = 16;

/// Makes values.
#[derive(Debug)]
pub(crate) struct Values {
    /// [`POOL_BYTES`] of text, and the beginning of it again.
    pool: Vec<u8>,
}

impl Values {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, purpose::TEXT);
        let mut pool = Vec::with_capacity(POOL_BYTES + LONGEST_PIECE + 64);
        while pool.len() < POOL_BYTES {
            let word = usize::try_from(random.below(u32::MAX)).unwrap_or_default() % WORDS.len();
            pool.extend_from_slice(WORDS[word].as_bytes());
            // Writing to a Vec does not fail.
            let _written = write!(pool, "{} ", random.below(1000));
        }
        pool.truncate(POOL_BYTES);
        pool.extend_from_within(..=LONGEST_PIECE);
        Self { pool }
    }

    /// Appends a value of exactly `len_bytes` for the object at `place`: an object in JSON, or, when that does not fit,
    /// text.
    pub(crate) fn push(
        &self,
        place: Place,
        generation: u32,
        len_bytes: usize,
        random: &mut Random,
        out: &mut Vec<u8>,
    ) {
        const CLOSING: &[u8] = b"\"}}}\n";
        let start = out.len();
        let resource = place.resource();
        let (high, low) = (random.bits(), random.bits());
        // Writing to a Vec does not fail.
        let _written = write!(
            out,
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{{\"name\":\"",
            resource.kind, resource.api_version
        );
        place.push_name(out);
        out.extend_from_slice(b"\",\"namespace\":\"");
        place.push_namespace(out);
        let _written = write!(
            out,
            "\",\"uid\":\"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\",\"generation\":{generation},\"annotations\":{{\"text\":\"",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        );
        let room = len_bytes.checked_sub(out.len() - start + CLOSING.len());
        match room {
            Some(room) => {
                self.push_text(room, random, out);
                out.extend_from_slice(CLOSING);
            }
            None => {
                out.truncate(start);
                self.push_text(len_bytes, random, out);
            }
        }
    }

    fn push_text(&self, len_bytes: usize, random: &mut Random, out: &mut Vec<u8>) {
        let end = out.len() + len_bytes;
        while out.len() < end {
            let bits = random.bits();
            let [a, b, c, ..] = bits.to_le_bytes();
            let from = usize::from(u16::from_le_bytes([a, b]));
            let piece = usize::from(c & 0x7f);
            out.extend_from_slice(self.pool.get(from..from + piece).unwrap_or_default());
            out.extend_from_slice(&fresh(random.bits()));
        }
        out.truncate(end);
    }
}

/// Sixteen characters from as many random bits as they can take.
fn fresh(bits: u64) -> [u8; FRESH_BYTES] {
    const ALPHABET: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; FRESH_BYTES];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bits.to_le_bytes()) {
        pair.copy_from_slice(&[ALPHABET[usize::from(byte >> 4)], ALPHABET[usize::from(byte & 15)]]);
    }
    out
}

/// How long values are: from `min` to `max` bytes, short ones more often than long ones, so that the mean comes
/// near `mean`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    min: u32,
    span: u32,
    /// Lengths lie at `min + span * u^power` for `u` between 0 and 1, which has the mean `min + span / (power + 1)`.
    power: u32,
    /// Of 2^32 values, how many use one power more, so that means in between can be had.
    steeper: u32,
}

/// Beyond this power nearly all values are of the least length.
const STEEPEST: u32 = 63;

impl Lengths {
    pub(crate) fn new(min: u32, max: u32, mean: u32) -> Self {
        let span = max.saturating_sub(min);
        let above = mean.saturating_sub(min);
        if above == 0 {
            return Self { min, span: 0, power: 1, steeper: 0 };
        }
        let power = (span / above).saturating_sub(1).clamp(1, STEEPEST);
        let steeper = (u64::from(span % above) << 32) / u64::from(above);
        Self { min, span, power, steeper: u32::try_from(steeper).unwrap_or(u32::MAX) }
    }

    pub(crate) fn pick(self, random: &mut Random) -> usize {
        let u = u64::from(random.bits32());
        let power = self.power + u32::from(random.bits32() < self.steeper);
        let share = (1..power).fold(u, |share, _| (share * u) >> 32);
        let len = u64::from(self.min) + ((u64::from(self.span) * share) >> 32);
        usize::try_from(len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;
    use crate::shape::{Preset, Shape};

    fn value(len: usize) -> Vec<u8> {
        let (mut random, mut out) = (Random::new(3, 9), b"before".to_vec());
        let names = Names::new(&Shape::preset(Preset::Big, 3));
        Values::new(3).push(names.place(17), 4, len, &mut random, &mut out);
        out.split_off(6)
    }

    #[test]
    fn values_have_their_length_and_are_json_where_they_can() {
        for (len, json) in [(0, false), (100, false), (512, true), (4096, true), (70_000, true)] {
            let value = value(len);
            assert_eq!(value.len(), len);
            let parsed = serde_json::from_slice::<serde_json::Value>(&value);
            assert_eq!(parsed.is_ok(), json, "{len}: {parsed:?}");
        }
    }

    #[test]
    fn values_are_text_that_compresses_a_little() {
        let value = value(1 << 20);
        let packed = gzip_len(&value);
        assert!(packed * 8 > value.len() && packed * 2 < value.len(), "{packed} of {}", value.len());
    }

    fn gzip_len(bytes: &[u8]) -> usize {
        use std::process::{Command, Stdio};
        let mut child =
            Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let packed = child.wait_with_output().unwrap().stdout.len();
        writer.join().unwrap();
        packed
    }

    #[test]
    fn lengths_keep_their_bounds_and_come_near_their_mean() {
        for (min, max, mean) in
            [(512, 8192, 4352), (512, 8192, 2048), (512, 8192, 700), (0, 100, 30), (9, 9, 9)]
        {
            let lengths = Lengths::new(min, max, mean);
            let mut random = Random::new(1, 1);
            let mut sum = 0;
            for _ in 0..20_000 {
                let len = u32::try_from(lengths.pick(&mut random)).unwrap();
                assert!((min..=max).contains(&len), "{len}");
                sum += u64::from(len);
            }
            let seen = sum / 20_000;
            assert!(seen.abs_diff(u64::from(mean)) <= u64::from(mean) / 10, "{seen} instead of {mean}");
        }
    }
}
