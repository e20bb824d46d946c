//! The names of keys.
//!
//! | [`KeyShape`] | name |
//! |---|---|
//! | `Kubernetes` | `/registry/<resource>/<namespace>/<name>` |
//! | `Flat` | seven letters |
//! | `Sixty` | `/objects/`, seven letters, `/`, 43 letters |
//! | `Deep` | `/deep/<namespace>/<app>`, twelve levels that are the same for all, seven letters, up to 63 levels more |
//!
//! A key's name follows from the seed and the key's number, so none is kept in memory. Numbers are spread over
//! resources and namespaces, and [`Names::rank`] orders them as their texts are ordered, in eight bytes.

use std::io::Write;

use crate::random::mix;
use crate::shape::{KeyShape, Shape};

/// One kind of object.
pub(crate) struct Resource {
    path: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) api_version: &'static str,
    /// How many of [`TICKETS`] keys are of this kind.
    tickets: u64,
    /// True where Kubernetes attaches leases.
    pub(crate) leased: bool,
}

const fn resource(
    path: &'static str,
    kind: &'static str,
    api_version: &'static str,
    tickets: u64,
) -> Resource {
    Resource { path, kind, api_version, tickets, leased: false }
}

/// Ascending by path, none the beginning of another: [`Names::rank`] relies on it, and a test holds it.
const RESOURCES: [Resource; 10] = [
    resource("configmaps", "ConfigMap", "v1", 14),
    resource("controllerrevisions", "ControllerRevision", "apps/v1", 4),
    resource("deployments", "Deployment", "apps/v1", 8),
    resource("endpointslices", "EndpointSlice", "discovery.k8s.io/v1", 9),
    Resource { leased: true, ..resource("events", "Event", "v1", 16) },
    resource("leases", "Lease", "coordination.k8s.io/v1", 3),
    resource("pods", "Pod", "v1", 26),
    resource("replicasets", "ReplicaSet", "apps/v1", 11),
    resource("secrets", "Secret", "v1", 6),
    resource("services/specs", "Service", "v1", 3),
];
const TICKETS: u64 = 100;

const TEAMS: [&str; 8] =
    ["billing", "checkout", "identity", "kube-system", "monitoring", "platform", "search", "warehouse"];
/// Namespaces of each team.
const STAGES: u64 = 16;
const APPS: [&str; 12] = [
    "api",
    "batch",
    "cache",
    "gateway",
    "indexer",
    "ledger",
    "mailer",
    "proxy",
    "queue",
    "router",
    "scheduler",
    "worker",
];

/// Kubernetes' alphabet of random suffixes, ascending.
const SUFFIX_ALPHABET: &[u8; 27] = b"2456789bcdfghjklmnpqrstvwxz";
/// Enough for every 32-bit number.
const SUFFIX_BYTES: usize = 7;

/// Between app and letters of deep names: what long names have in common.
const COMMON_LEVELS: &str = "/level-01/level-02/level-03/level-04/level-05/level-06/level-07/level-08/level-09/level-10\
                             /level-11/level-12";
/// Levels that may follow the letters of a deep name, so that it has less than 1,024 bytes: less than this.
const TAIL_LEVELS: u32 = 64;
/// Letters of each of them.
const TAIL_LETTERS: usize = 11;

/// Where a key belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    resource: usize,
    team: usize,
    stage: u64,
    app: usize,
    suffix: u32,
    tail: u32,
}

/// The names of all keys of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    seed: u64,
    keys: KeyShape,
}

impl Names {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self { seed: mix(shape.seed ^ 0x6e61_6d65), keys: shape.keys }
    }

    /// About how many bytes a name has.
    pub(crate) fn expected_bytes(self) -> u64 {
        match self.keys {
            KeyShape::Kubernetes => 50,
            KeyShape::Flat => 7,
            KeyShape::Sixty => 60,
            KeyShape::Deep => 520,
        }
    }

    /// Where key `number` belongs.
    pub(crate) fn place(self, number: u32) -> Place {
        let bits = mix(self.seed ^ u64::from(number));
        let mut ticket = bits % TICKETS;
        let resource = RESOURCES
            .iter()
            .position(|resource| match ticket.checked_sub(resource.tickets) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            })
            .unwrap_or_default();
        let [_, a, b, c, d, e, f, g] = bits.to_le_bytes();
        Place {
            resource,
            team: usize::from(a) % TEAMS.len(),
            stage: u64::from(b) % STAGES,
            app: usize::from(c) % APPS.len(),
            suffix: self.suffix(number),
            tail: u32::from_le_bytes([d, e, f, g]),
        }
    }

    /// A bijection of 32-bit numbers: two keys never have the same suffix.
    fn suffix(self, number: u32) -> u32 {
        let [a, b, c, d, ..] = self.seed.to_le_bytes();
        let mut x = number ^ u32::from_le_bytes([a, b, c, d]);
        for odd in [0x7feb_352d_u32, 0x846c_a68b] {
            x = (x ^ (x >> 16)).wrapping_mul(odd);
        }
        x ^ (x >> 15)
    }

    /// A number that orders keys as their names are ordered.
    pub(crate) fn rank(self, number: u32) -> u64 {
        let place = self.place(number);
        // Each part is far below 256.
        let part = |value: usize| u64::try_from(value).unwrap_or_default();
        let namespace = part(place.team) * STAGES + place.stage;
        let within = (namespace << 40) | (part(place.app) << 32) | u64::from(place.suffix);
        match self.keys {
            KeyShape::Kubernetes => (part(place.resource) << 48) | within,
            KeyShape::Flat | KeyShape::Sixty => u64::from(place.suffix),
            KeyShape::Deep => within,
        }
    }

    /// Appends the name of key `number`.
    pub(crate) fn push(self, number: u32, out: &mut Vec<u8>) {
        let place = self.place(number);
        match self.keys {
            KeyShape::Kubernetes => place.push(out),
            KeyShape::Flat => push_letters(place.suffix, SUFFIX_BYTES, out),
            KeyShape::Sixty => place.push_sixty(out),
            KeyShape::Deep => place.push_deep(out),
        }
    }
}

impl Place {
    pub(crate) fn resource(self) -> &'static Resource {
        &RESOURCES[self.resource % RESOURCES.len()]
    }

    /// Appends the whole key of a Kubernetes store.
    fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"/registry/");
        out.extend_from_slice(self.resource().path.as_bytes());
        out.push(b'/');
        self.push_namespace(out);
        out.push(b'/');
        self.push_name(out);
    }

    /// Appends a whole key of 60 bytes, of which no two have much in common.
    fn push_sixty(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"/objects/");
        push_letters(self.suffix, SUFFIX_BYTES, out);
        out.push(b'/');
        let mut bits = u64::from(self.tail);
        for letters in [7, 7, 7, 7, 7, 7, 1] {
            bits = mix(bits ^ u64::from(self.suffix));
            let [a, b, c, d, ..] = bits.to_le_bytes();
            push_letters(u32::from_le_bytes([a, b, c, d]), letters, out);
        }
    }

    /// Appends the whole key of a deep store. Its letters are different from all others', so what follows them does not
    /// matter for the order.
    fn push_deep(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"/deep/");
        self.push_namespace(out);
        out.push(b'/');
        out.extend_from_slice(APPS[self.app % APPS.len()].as_bytes());
        out.extend_from_slice(COMMON_LEVELS.as_bytes());
        out.push(b'/');
        push_letters(self.suffix, SUFFIX_BYTES, out);
        for level in 0..self.tail % TAIL_LEVELS {
            out.push(b'/');
            push_letters(self.tail ^ level, TAIL_LETTERS, out);
        }
    }

    /// Appends the namespace alone.
    pub(crate) fn push_namespace(self, out: &mut Vec<u8>) {
        out.extend_from_slice(TEAMS[self.team % TEAMS.len()].as_bytes());
        // Writing to a Vec does not fail.
        let _written = write!(out, "-{:02}", self.stage);
    }

    /// Appends the object's name alone.
    pub(crate) fn push_name(self, out: &mut Vec<u8>) {
        out.extend_from_slice(APPS[self.app % APPS.len()].as_bytes());
        out.push(b'-');
        push_letters(self.suffix, SUFFIX_BYTES, out);
        if self.resource().path == "pods" {
            out.push(b'-');
            push_letters(self.tail, 5, out);
        }
    }
}

/// The last `digits` digits of `number` in the suffixes' alphabet; ordered as the numbers are.
fn push_letters(number: u32, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = number;
    for _ in 0..digits {
        let digit = usize::try_from(rest % 27).unwrap_or_default();
        out.push(SUFFIX_ALPHABET[digit % SUFFIX_ALPHABET.len()]);
        rest /= 27;
    }
    if let Some(letters) = out.get_mut(start..) {
        letters.reverse();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::shape::Preset;

    fn text(names: Names, number: u32) -> String {
        let mut out = Vec::new();
        names.push(number, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tickets_add_up_and_no_name_begins_another() {
        assert_eq!(RESOURCES.iter().map(|resource| resource.tickets).sum::<u64>(), TICKETS);
        let paths: Vec<&str> = RESOURCES.iter().map(|resource| resource.path).collect();
        for list in [&paths[..], &TEAMS, &APPS] {
            for pair in list.windows(2) {
                assert!(pair[0] < pair[1] && !pair[1].starts_with(pair[0]), "{pair:?}");
            }
        }
        assert!(27_u64.pow(7) > u64::from(u32::MAX));
    }

    fn names(seed: u64, keys: KeyShape) -> Names {
        Names::new(&Shape { keys, ..Shape::preset(Preset::Big, seed) })
    }

    #[test]
    fn names_are_different_and_look_like_kubernetes() {
        let names = names(1, KeyShape::Kubernetes);
        let all: BTreeSet<String> = (0..20_000).map(|number| text(names, number)).collect();
        assert_eq!(all.len(), 20_000);
        for resource in &RESOURCES {
            let prefix = format!("/registry/{}/", resource.path);
            assert!(all.iter().filter(|name| name.starts_with(&prefix)).count() > 300, "{prefix}");
        }
        assert!(all.iter().all(|name| name.len() < 80));
    }

    #[test]
    fn names_are_as_long_as_their_shape_says() {
        for (keys, shortest, longest) in [
            (KeyShape::Kubernetes, 30, 80),
            (KeyShape::Flat, 7, 8),
            (KeyShape::Sixty, 60, 61),
            (KeyShape::Deep, 130, 1_024),
        ] {
            let names = names(1, keys);
            let all: BTreeSet<String> = (0..20_000).map(|number| text(names, number)).collect();
            assert_eq!(all.len(), 20_000);
            assert!(all.iter().all(|name| (shortest..longest).contains(&name.len())), "{keys:?}");
            let mean = all.iter().map(String::len).sum::<usize>() / all.len();
            let expected = usize::try_from(names.expected_bytes()).unwrap();
            assert!(mean.abs_diff(expected) <= expected / 5, "{keys:?}: {mean} bytes");
        }
    }

    proptest! {
        #[test]
        fn ranks_order_as_texts_do(seed in any::<u64>(), a in any::<u32>(), b in any::<u32>()) {
            for keys in [KeyShape::Kubernetes, KeyShape::Flat, KeyShape::Sixty, KeyShape::Deep] {
                let names = names(seed, keys);
                prop_assert_eq!(names.rank(a).cmp(&names.rank(b)), text(names, a).cmp(&text(names, b)));
            }
        }
    }
}
