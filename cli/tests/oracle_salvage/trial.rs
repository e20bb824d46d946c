//! One trial: damage, salvage, and what came of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bbolt::BadMap;
use serde_json::Value;
use snapshot::salvage::{self, SalvageError, SalvageOptions, gather};
use testdata::damage::Rng;
use testdata::key_space::{message_of, revision_of};
use testdata::laboratory::{Damage, Damaged, Ledger, Number, Pairs, What};
use testdata::oracle::{Gateway, Launch};

use super::bench::Bench;
use super::support::{Plan, rescue, text};
use super::told::{Output, Salvaged, Trust, extracted};

/// What trials came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) trials: usize,
    /// Records before the damage.
    pub(crate) all: usize,
    /// Of these physically left, by the ledger.
    pub(crate) there: usize,
    /// Of these in the output, with the right bytes.
    pub(crate) recovered: usize,
    /// Of those left and not recovered, the ones of which the file has a copy with other bytes that could be right as well, which
    /// was taken and is told to be open to doubt.
    pub(crate) disputed: usize,
    /// Records in the output with other bytes than that revision ever had, and told to be certain: none.
    pub(crate) wrong_confirmed: usize,
    /// The same, told to rest on one copy.
    pub(crate) wrong_single: usize,
    /// The same, told to be open to doubt.
    pub(crate) wrong_suspect: usize,
    /// Keys in the output that did not exist any more.
    pub(crate) came_back: usize,
    /// Of these not because every record of their deletion is lost.
    pub(crate) by_rule: usize,
    /// Times that every record and the hash were those of the undamaged member.
    pub(crate) equal: usize,
    /// Times a real server served what was told.
    pub(crate) served: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.trials += other.trials;
        self.all += other.all;
        self.there += other.there;
        self.recovered += other.recovered;
        self.disputed += other.disputed;
        self.wrong_confirmed += other.wrong_confirmed;
        self.wrong_single += other.wrong_single;
        self.wrong_suspect += other.wrong_suspect;
        self.came_back += other.came_back;
        self.by_rule += other.by_rule;
        self.equal += other.equal;
        self.served += other.served;
    }

    /// Records that are left, are not recovered, and of which there is nothing else.
    pub(crate) fn missed(&self) -> usize {
        self.there - self.recovered - self.disputed
    }
}

/// How far a trial goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The library makes its plan.
    Planned,
    /// The program writes it.
    Written,
    /// A real server starts from what was written.
    Served,
}

/// What is given beside the damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Help {
    Nothing,
    /// A map of the pages that lost what they held, as ddrescue writes it.
    Map,
    /// The file as it was a commit earlier.
    OlderFile,
}

/// The damages of a trial, one or two, and its seed.
#[derive(Clone, Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) damages: Vec<&'static Damage>,
    pub(crate) seed: u64,
    /// Whether all of it has to hold, wherever the pages happen to lie.
    pub(crate) is_strict: bool,
    /// What was not as it has to be.
    pub(crate) failures: &'a RefCell<Vec<String>>,
}

impl Trial<'_> {
    pub(crate) fn label(&self) -> String {
        let names: Vec<&str> = self.damages.iter().map(|damage| damage.name).collect();
        format!("{}: {}, seed {}", self.bench.name(), names.join(" and "), self.seed)
    }

    /// The damaged file; `None` where there is nothing to damage so.
    pub(crate) fn damaged(&self) -> Option<Damaged> {
        let mut damaged = self.bench.specimen.whole();
        let mut rng = Rng::seeded_by(&self.label());
        let is_done =
            self.damages.iter().all(|damage| damage.apply(&self.bench.specimen, &mut damaged, &mut rng));
        is_done.then_some(damaged)
    }

    fn holds(&self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.failures.borrow_mut().push(format!("{}: {}", self.label(), what()));
        }
    }

    /// As [`Self::holds`], of what follows from where pages happen to lie: a gate asks for it only where they lie the same each time.
    fn holds_fixed(&self, is_so: bool, what: impl FnOnce() -> String) {
        self.holds(is_so || !(self.bench.is_fixed || self.is_strict), what);
    }

    fn has(&self, is_it: fn(What) -> bool) -> bool {
        self.damages.iter().any(|damage| is_it(damage.what))
    }

    /// Whether there is a record of each revision that there was, and no other. Nothing tells whether the place in it is right that
    /// one has below the compaction.
    fn is_whole(&self, records: &Pairs) -> bool {
        // What was copied while it was written may be a state that there was, with nothing missing of it.
        if self.has(|what| what == What::CopiedWhileWritten) {
            return true;
        }
        let bytes = if self.has(|what| what == What::Bit(Number::Place)) { 8 } else { usize::MAX };
        let revisions = |pairs: &Pairs| -> Vec<Vec<u8>> {
            pairs.keys().map(|key| key[..bytes.min(key.len())].to_vec()).collect()
        };
        revisions(records) == revisions(&self.bench.specimen.ledger().truth)
    }

    /// Salvages the damaged file without its log, with this help. `None` where there is nothing to damage so, or no such help.
    pub(crate) fn salvaged(&self, help: Help, how: How, dir: &Path) -> Option<Tally> {
        let damaged = self.damaged()?;
        let (specimen, ledger) = (&self.bench.specimen, self.bench.specimen.ledger());
        let mut there = specimen.there(&damaged);
        let (mut files, mut map) = (vec![damaged.bytes().to_vec()], None);
        match help {
            Help::Nothing => {}
            Help::Map => {
                let is_known = |damage: &&Damage| matches!(damage.what, What::Lost(..) | What::Metas(..));
                map =
                    Some(self.damages.iter().all(is_known).then(|| map_of(&damaged, specimen.page_size()))?);
            }
            Help::OlderFile => {
                let file = *specimen.files().get(1)?;
                there.append(&mut ledger.seen(file));
                files.push((0..file.pages()).flat_map(|page| file.page(page)).copied().collect());
            }
        }
        let mut tally = Tally { trials: 1, all: ledger.truth.len(), there: there.len(), ..Tally::default() };
        let planned = planned(&files, map.as_deref(), dir);
        let Some(planned) = planned else {
            self.holds(there.is_empty(), || format!("{} left, and nothing found", there.len()));
            return Some(tally);
        };
        self.nothing_confirmed_is_wrong(&planned, &mut tally);
        let wrong = tally.wrong_single + tally.wrong_suspect;
        self.holds(wrong == 0 || help != Help::Map, || {
            format!("{wrong} wrong values, though all that is bad was told")
        });
        let records: Pairs = planned
            .records
            .iter()
            .map(|(revision, (message, _))| (revision.clone(), message.clone()))
            .collect();
        let seen = ledger.seen(damaged.file());
        let left: Pairs =
            files.iter().flat_map(|bytes| ledger.seen_of_history(specimen.read(bytes))).collect();
        let more = self.compare(&there, &records, &left, &mut tally);
        let disputed: BTreeSet<&[u8]> =
            files.iter().flat_map(|bytes| ledger.disputed(specimen.read(bytes))).collect();
        let is_disputed = |revision: &&&[u8]| {
            let told = planned.records.get(**revision);
            told.is_some_and(|(message, trust)| {
                *message != ledger.truth[**revision]
                    && *trust == Trust::Suspect
                    && disputed.contains(**revision)
            })
        };
        tally.disputed = there.iter().filter(is_disputed).count();
        // Zeros that were overwritten by zeros; numbers that others tell.
        let is_told = self.has(|what| matches!(what, What::Bit(_) | What::BitRot));
        self.holds(is_told || more.is_subset(&seen), || {
            format!("{} records that are in no page", more.len())
        });
        // A page that was moved into a long value is looked for only where a branch names it, and that may be lost. What stands behind
        // a page that was written over is in no leaf, though the leaf's head may name it.
        let may_hide = self.has(|what| {
            matches!(
                what,
                What::Swapped(_) | What::Duplicated(_) | What::YoungTree | What::Bit(Number::Place)
            )
        });
        let most_missed = if may_hide { tally.there / 20 } else { 0 };
        self.holds_fixed(tally.missed() <= most_missed, || format!("{help:?}, not all: {tally:?}"));
        self.holds_fixed(tally.by_rule == 0, || format!("{help:?}, came back: {tally:?}"));
        // A value that is wrong and has one copy cannot be told from one that is right.
        let is_whole = self.is_whole(&records);
        self.holds_fixed(planned.code == 3 || is_whole, || format!("{help:?}, exit code 0, and {tally:?}"));
        if how != How::Planned {
            let output = self.written(&files, map.as_deref(), &planned, dir);
            self.holds(output.records == records, || "other records are written than are told".to_owned());
            if how == How::Served {
                self.serves(&output);
                tally.served = 1;
            }
        }
        Some(tally)
    }

    /// Has the program do all of it, and holds what it says and writes against what the library says.
    fn written(&self, files: &[Vec<u8>], map: Option<&str>, planned: &Planned, dir: &Path) -> Output {
        let paths: Vec<_> = (0..files.len()).map(|number| dir.join(format!("damaged-{number}.db"))).collect();
        let mut inputs: Vec<&str> = paths.iter().map(|path| text(path)).collect();
        inputs.iter().zip(files).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let path = dir.join("damaged.map");
        if let Some(map) = map {
            fs::write(&path, map).unwrap();
            inputs.extend(["--bad-map", text(&path)]);
        }
        let salvaged = Salvaged::of(&inputs, dir);
        self.holds(salvaged.code == planned.code, || format!("not {}: {:?}", planned.code, salvaged.run));
        let told = extracted(&inputs, dir);
        // What a damaged record has beside the fields of one is not told.
        let as_told = |records: &BTreeMap<Vec<u8>, (Vec<u8>, Trust)>| -> Vec<_> {
            let fields = |(revision, (message, trust)): (&Vec<u8>, &(Vec<u8>, Trust))| {
                (revision.clone(), message_of(message), *trust)
            };
            records.iter().map(fields).collect()
        };
        self.holds(as_told(&told) == as_told(&planned.records), || {
            format!("{} told, {} planned", told.len(), planned.records.len())
        });
        let of = |wanted| told.values().filter(|(_, trust)| *trust == wanted).count() as u64;
        let by_trust = [Trust::Confirmed, Trust::Single, Trust::Suspect].map(of);
        let counted =
            ["confirmed", "single", "suspect"].map(|name| salvaged.report["account"][name].as_u64().unwrap());
        self.holds(by_trust == counted, || format!("{by_trust:?} told, {counted:?} counted"));
        salvaged.output.unwrap_or_else(|| panic!("{}: {:?}", self.label(), salvaged.run))
    }

    /// Counts the values that are wrong.
    fn nothing_confirmed_is_wrong(&self, planned: &Planned, tally: &mut Tally) {
        let history = &self.bench.specimen.ledger().history;
        let wrong =
            planned.records.iter().filter(|(revision, (message, _))| history.get(*revision) != Some(message));
        for (revision, (message, trust)) in wrong {
            let count = match trust {
                Trust::Confirmed => &mut tally.wrong_confirmed,
                Trust::Single => &mut tally.wrong_single,
                Trust::Suspect => &mut tally.wrong_suspect,
            };
            *count += 1;
            self.holds(*trust != Trust::Confirmed, || {
                format!("confirmed and wrong: {}", shown(revision, message))
            });
        }
    }

    /// Holds what was found against the truth, and against what the ledger says is left of it. Returns what was recovered beside.
    fn compare(
        &self,
        there: &BTreeSet<&[u8]>,
        records: &Pairs,
        left: &Pairs,
        tally: &mut Tally,
    ) -> BTreeSet<&[u8]> {
        let truth = &self.bench.specimen.ledger().truth;
        let right = |revision: &&&[u8]| records.get(**revision) == truth.get(**revision);
        tally.recovered = there.iter().filter(right).count();
        let (before, now) = (Ledger::alive(truth), Ledger::alive(records));
        let left = Ledger::alive(left);
        let came_back = || now.keys().filter(|key| !before.contains_key(*key));
        tally.came_back = came_back().count();
        // What is left of a record that is damaged tells of no other.
        let history = &self.bench.specimen.ledger().history;
        let by_rule = || {
            let is_right = |key: &&Vec<u8>| history.get(now[*key]) == records.get(now[*key]);
            came_back().filter(|key| !left.contains_key(*key)).filter(is_right)
        };
        tally.by_rule = by_rule().count();
        if std::env::var_os("ETCD_RESCUE_SHOW").is_some() {
            self.show(there, records);
            by_rule().for_each(|key| show_back(key, now[key]));
        }
        truth.keys().map(Vec::as_slice).filter(|key| right(&key) && !there.contains(key)).collect()
    }

    /// What is missing and what is wrong, for whoever has to find out why.
    #[allow(clippy::print_stderr, reason = "what was asked for")]
    fn show(&self, there: &BTreeSet<&[u8]>, records: &Pairs) {
        let ledger = self.bench.specimen.ledger();
        for revision in
            there.iter().filter(|revision| records.get(**revision) != ledger.truth.get(**revision))
        {
            eprintln!("not recovered: {}", shown(revision, &ledger.truth[*revision]));
        }
        for (revision, message) in
            records.iter().filter(|(revision, message)| ledger.truth.get(*revision) != Some(message))
        {
            let what = if ledger.history.get(revision) == Some(message) { "compacted" } else { "wrong" };
            eprintln!("{what}: {}", shown(revision, message));
        }
    }

    /// Salvages the damaged file with the log of its member. Where that covers what is lost it ends with what the undamaged one had.
    /// Returns whether it does.
    pub(crate) fn with_log(&self, how: How, dir: &Path) -> Option<(bool, Tally)> {
        let damaged = self.damaged()?;
        let (db, specimen) = (dir.join("damaged.db"), &self.bench.specimen);
        let ledger = specimen.ledger();
        fs::write(&db, damaged.bytes()).unwrap();
        let there = specimen.there(&damaged);
        let is_covered = self.bench.is_covered(&damaged);
        let salvaged = Salvaged::of(&[text(&db), "--wal-dir", text(&self.bench.wal)], dir);
        self.holds(salvaged.output.is_some(), || format!("{:?}", salvaged.run));
        let output = salvaged.output.as_ref()?;
        let told = || format!("{:?}\n{}", salvaged.run, ways(&salvaged.report));
        let (all, is_right) =
            (ledger.truth.len(), |key: &&[u8]| output.records.get(*key) == ledger.truth.get(*key));
        let recovered = ledger.truth.keys().map(Vec::as_slice).filter(is_right).count();
        let mut tally = Tally { trials: 1, all, there: there.len(), recovered, ..Tally::default() };
        if is_covered {
            tally.equal = usize::from(self.is_as_undamaged(output, &told));
        } else {
            let disputed = ledger.disputed(damaged.file());
            let lost = there.iter().filter(|key| !is_right(key) && !disputed.contains(*key)).count();
            self.holds_fixed(lost == 0, || format!("{lost} of {} not recovered\n{}", there.len(), told()));
            let is_whole = self.is_whole(&output.records);
            self.holds_fixed(salvaged.code == 3 || is_whole, || format!("exit code 0\n{}", told()));
        }
        if how == How::Served {
            self.serves(output);
            tally.served = 1;
        }
        Some((is_covered, tally))
    }

    /// Holds that the output has everything that the undamaged member had; returns whether all its records and its hash are the same.
    fn is_as_undamaged(&self, output: &Output, told: &dyn Fn() -> String) -> bool {
        let truth = &self.bench.specimen.ledger().truth;
        let hash = self.bench.hash_of(&output.records, output.compacted());
        let lost = truth.keys().filter(|key| !output.records.contains_key(*key)).count();
        let added = output.records.keys().filter(|key| !truth.contains_key(*key)).count();
        // Pages of two commits can look like one sound tree, and a record stand at another place of its revision.
        let is_mixed = self.has(|what| {
            matches!(what, What::TornCommit | What::CopiedWhileWritten | What::Bit(Number::Place))
        });
        let is_all = lost == 0 && added == 0;
        let what = || format!("{lost} lost, {added} added\n{}", told());
        if is_mixed {
            self.holds_fixed(is_all, what);
        } else {
            self.holds(is_all, what);
        }
        let is_equal = hash == Some(self.bench.hash) && output.records == *truth;
        self.holds_fixed(is_equal, || format!("hash {hash:x?}, not {:x}\n{}", self.bench.hash, told()));
        for bucket in ["lease", "auth", "authRoles", "authUsers"] {
            let (is, was) = (output.tree.buckets.get(bucket.as_bytes()), self.bench.specimen.bucket(bucket));
            self.holds_fixed(is == was, || format!("bucket {bucket}: {is:?}, not {was:?}\n{}", told()));
        }
        is_equal
    }

    /// A data dir is restored from the output, and a real server serves every key of it, with its hash.
    fn serves(&self, output: &Output) {
        let scratch = tempfile::tempdir().unwrap();
        let (plan, data_dir) = (Plan::new(1), scratch.path().join("m1"));
        let line = plan.restore_line(&output.path, 0);
        let run = rescue(line.iter().map(String::as_str).chain(["--data-dir", text(&data_dir)]));
        self.holds(run.status.success(), || format!("{run:?}"));
        let (name, url) = &plan.members[0];
        let flags = ["--heartbeat-interval=10", "--election-timeout=100"];
        let mut server = Launch::new(self.bench.version, &data_dir, name).peer_url(url).args(flags).spawn();
        let mut gateway = Gateway::ready(&mut server);
        let mut alive: Vec<_> = Ledger::alive(&output.records)
            .into_values()
            .filter_map(|revision| message_of(&output.records[revision]))
            .collect();
        alive.sort();
        let (listing, is) = (gateway.list(0).unwrap(), gateway.hashkv(0).unwrap());
        // What a damaged record comes to that is none a server writes is not held against anything.
        if let Some(hash) = self.bench.hash_of(&output.records, output.compacted()) {
            self.holds(listing == alive, || {
                format!("{} keys served, {} written", listing.len(), alive.len())
            });
            self.holds(is.hash == hash, || format!("{is:?}, not {hash:x}"));
        }
        server.kill();
    }
}

#[allow(clippy::print_stderr, reason = "what was asked for")]
fn show_back(key: &[u8], revision: &[u8]) {
    eprintln!("came back: {} as {:?}", String::from_utf8_lossy(key), revision_of(revision));
}

/// A map of the pages of a file that lost what they held.
fn map_of(damaged: &Damaged, page_size: usize) -> String {
    let mut map = "# Mapfile. Created by GNU ddrescue version 1.27\n0x0 + 1\n".to_owned();
    for (at, place) in damaged.places().iter().enumerate() {
        let status = if place.origin.is_some() { '+' } else { '-' };
        writeln!(map, "{:#x} {page_size:#x} {status}", at * page_size).unwrap();
    }
    map
}

/// What the library says of the best way out.
struct Planned {
    records: BTreeMap<Vec<u8>, (Vec<u8>, Trust)>,
    code: i32,
}

/// `None` when nothing of a database was found.
fn planned(files: &[Vec<u8>], map: Option<&str>, dir: &Path) -> Option<Planned> {
    let bad_maps = map.map(|map| (None, BadMap::parse(map).unwrap().bad)).into_iter().collect();
    let options = SalvageOptions { bad_maps, ..SalvageOptions::default() };
    let paths: Vec<_> = (0..files.len()).map(|number| dir.join(format!("planned-{number}.db"))).collect();
    paths.iter().zip(files).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let evidence = match gather(&paths, &options, &()) {
        Ok(evidence) => evidence,
        Err(SalvageError::Nothing { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let plan = evidence.plan(&()).unwrap();
    let code = i32::from(plan.report(1, &()).unwrap().exit_code());
    let mut records = BTreeMap::new();
    let mut each = |found: &salvage::Salvaged<'_>| {
        let trust = match found.trust {
            salvage::Trust::Confirmed => Trust::Confirmed,
            salvage::Trust::Single => Trust::Single,
            salvage::Trust::Suspect => Trust::Suspect,
        };
        let before = records.insert(found.revision.encode(), (found.value.to_vec(), trust));
        assert!(before.is_none(), "twice: {:?}", found.revision);
        ControlFlow::Continue(())
    };
    plan.records(1, &(), &mut each).unwrap();
    Some(Planned { records, code })
}

fn shown(revision: &[u8], message: &[u8]) -> String {
    let key = message_of(message).map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
    format!("{:?} {key:?}, {} bytes", revision_of(revision), message.len())
}

/// The ways that a report has, and its findings.
fn ways(report: &Value) -> String {
    let ways = report["ways"].as_array().into_iter().flatten();
    ways.map(|way| way.to_string() + "\n").chain([report["findings"].to_string()]).collect()
}
