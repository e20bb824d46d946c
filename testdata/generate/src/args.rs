//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, ValueEnum};
use generate::{
    DbOutput, EntryKind, KeyShape, LogOptions, LogOutput, Outputs, Preset, SCALE_ONE, Shape, Sweep,
};
use snapshot::target::TargetVersion;

/// The segment size of etcd.
const SEGMENT_BYTES: &str = "64000000";

/// Writes big etcd files from a seed: the same arguments give the same bytes.
#[derive(Debug, Parser)]
#[command(name = "etcd-rescue-generate", group(ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct Args {
    /// The shape to start from; the options below change it.
    #[arg(long, value_enum, default_value = "big")]
    preset: PresetName,
    /// Times everything that grows with a store: 0.01, 1, 3.5.
    #[arg(long, value_parser = scale, default_value = "1", conflicts_with = "size")]
    scale: u64,
    /// The scale at which the preset's db has about this many bytes: 512MiB, 8GiB.
    #[arg(long, value_parser = some_size)]
    size: Option<u64>,
    /// What names, values and choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Page size in bytes: a power of two from 1024 to 65536.
    #[arg(long)]
    page_size: Option<u32>,
    /// Revisions of transactions.
    #[arg(long)]
    revisions: Option<u32>,
    /// Puts and deletes in a transaction, on average.
    #[arg(long)]
    txn_size: Option<u32>,
    /// Deletes among them, in percent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=50))]
    delete_share: Option<u32>,
    /// Live keys at the end, in percent of the puts that delete nothing: 100 is a store without history.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    live_share: Option<u32>,
    /// Live keys that range deletes remove at the end, in percent; 0 for none.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    swept_share: Option<u32>,
    /// How many range deletes there are.
    #[arg(long)]
    sweeps: Option<u32>,
    /// Whether there is a compaction at the end, what it removed lying in free pages.
    #[arg(long)]
    compacted: Option<bool>,
    /// What names of keys look like.
    #[arg(long, value_enum, default_value = "kubernetes")]
    key_shape: KeyShapeName,
    /// Lengths of values in bytes: 512..8192.
    #[arg(long, value_parser = lengths)]
    value_bytes: Option<(u32, u32)>,
    /// Their mean.
    #[arg(long)]
    value_mean: Option<u32>,
    /// Leases.
    #[arg(long)]
    leases: Option<u32>,
    /// Members of the cluster.
    #[arg(long)]
    members: Option<u32>,
    /// The version of etcd whose data it is: 3.4, 3.5, 3.6 or 3.7.
    #[arg(long, value_name = "VERSION")]
    etcd: Option<TargetVersion>,
    /// Ends the db with the SHA-256 of its image: a snapshot.
    #[arg(long, requires = "output")]
    trailer: bool,
    /// Where to write the db.
    #[arg(short, long, value_name = "FILE", group = "what")]
    output: Option<PathBuf>,
    /// Where to write the log whose replay makes the same store: a directory, such as member/wal of a data dir.
    #[arg(long, value_name = "DIR", group = "what")]
    wal: Option<PathBuf>,
    /// What a revision of one operation asks of a server in the log; of several it is a transaction.
    #[arg(long, value_enum, default_value = "mixed", requires = "wal")]
    entry_kind: EntryKindName,
    /// Segments of the log are cut at this size.
    #[arg(long, value_parser = some_size, default_value = SEGMENT_BYTES)]
    segment_bytes: u64,
    /// How facts are printed.
    #[arg(short = 'w', long = "write-out", value_enum, default_value = "simple")]
    pub(crate) format: Format,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// [`Preset`] by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PresetName {
    /// Large transactions, values of 0.5 to 8 KiB, 2.4 GB.
    Big,
    /// The same after range deletes and a compaction: a fifth of it is in use.
    Frag,
    /// One operation a revision, as Kubernetes writes, 1.3 GB.
    Flat,
}

/// [`KeyShape`] by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyShapeName {
    /// /registry/pods/billing-04/api-…, some 50 bytes.
    Kubernetes,
    /// Seven letters, nothing in common.
    Flat,
    /// 60 bytes, nothing in common but the first nine.
    Sixty,
    /// Many levels, 130 to 1023 bytes, much of them in common.
    Deep,
}

/// [`EntryKind`] by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EntryKindName {
    /// A quarter plain requests, else transactions that compare the key's revision.
    Mixed,
    /// Plain puts and deletes.
    Put,
    /// Transactions, range deletes included.
    Txn,
}

/// How facts are printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// A line for each.
    Simple,
    /// One object.
    Json,
}

impl Args {
    /// What is to be written.
    pub(crate) fn outputs(&self) -> Outputs {
        let entries = match self.entry_kind {
            EntryKindName::Mixed => EntryKind::Mixed,
            EntryKindName::Put => EntryKind::Put,
            EntryKindName::Txn => EntryKind::Txn,
        };
        let options = LogOptions { segment_bytes: self.segment_bytes, entries };
        Outputs {
            db: self.output.clone().map(|path| DbOutput { path, trailer: self.trailer }),
            log: self.wal.clone().map(|dir| LogOutput { dir, options }),
        }
    }

    /// The shape that is asked for; the message of an error says what is wrong with it.
    pub(crate) fn shape(&self) -> Result<Shape, String> {
        let preset = match self.preset {
            PresetName::Big => Preset::Big,
            PresetName::Frag => Preset::Frag,
            PresetName::Flat => Preset::Flat,
        };
        let base = Shape::preset(preset, self.seed);
        let scale = match self.size {
            Some(bytes) => scale_of(bytes, preset),
            None => self.scale,
        };
        let mut shape = base.scaled(scale).map_err(|error| error.to_string())?;
        self.change_counts(&mut shape)?;
        if let Some((min, max)) = self.value_bytes {
            (shape.value_min_bytes, shape.value_max_bytes) = (min, max);
            shape.value_mean_bytes = shape.value_mean_bytes.min(min.midpoint(max)).max(min);
        }
        let set = |place: &mut u32, given: Option<u32>| *place = given.unwrap_or(*place);
        set(&mut shape.value_mean_bytes, self.value_mean);
        set(&mut shape.leases, self.leases);
        set(&mut shape.members, self.members);
        set(&mut shape.page_size, self.page_size);
        shape.keys = match self.key_shape {
            KeyShapeName::Kubernetes => KeyShape::Kubernetes,
            KeyShapeName::Flat => KeyShape::Flat,
            KeyShapeName::Sixty => KeyShape::Sixty,
            KeyShapeName::Deep => KeyShape::Deep,
        };
        shape.written_by = self.etcd.unwrap_or(shape.written_by);
        shape.compacted = self.compacted.unwrap_or(shape.compacted);
        shape.validate().map_err(|error| error.to_string())?;
        Ok(shape)
    }

    /// Revisions, records, deletes and live keys; shares stay what they are where only another is given.
    fn change_counts(&self, shape: &mut Shape) -> Result<(), String> {
        let before = shape.clone();
        let too_many = || "so many revisions and operations cannot be counted".to_owned();
        if self.revisions.is_some() || self.txn_size.is_some() {
            shape.revisions = self.revisions.unwrap_or(shape.revisions);
            shape.records = match self.txn_size {
                Some(size) => shape.revisions.checked_mul(size).ok_or_else(too_many)?,
                None => share(shape.revisions, before.records, before.revisions),
            };
        }
        shape.deletes = match self.delete_share {
            // As many puts again have to be there for what is deleted.
            Some(percent) => share(shape.records, percent, 100),
            None => share(shape.records, before.deletes, before.records),
        };
        let puts_left = |shape: &Shape| shape.records.saturating_sub(shape.deletes.saturating_mul(2));
        shape.live_keys = match self.live_share {
            Some(percent) => share(puts_left(shape), percent, 100),
            None => share(puts_left(shape), before.live_keys, puts_left(&before)),
        };
        if shape.revisions == before.revisions
            && shape.records == before.records
            && self.delete_share.is_none()
            && self.live_share.is_none()
        {
            (shape.deletes, shape.live_keys) = (before.deletes, before.live_keys);
        } else if let Some(sweep) = &mut shape.sweep {
            sweep.live_keys = share(shape.live_keys, sweep.live_keys, before.live_keys);
        }
        if let Some(percent) = self.swept_share {
            let left = shape.live_keys.saturating_sub(share(shape.live_keys, percent, 100));
            let revisions = shape.sweep.map_or(1, |sweep| sweep.revisions);
            shape.sweep = (percent > 0).then_some(Sweep { revisions, live_keys: left });
        }
        match (&mut shape.sweep, self.sweeps) {
            (Some(sweep), Some(revisions)) => sweep.revisions = revisions,
            (None, Some(_)) => return Err("--sweeps is for --swept-share above 0".to_owned()),
            (_, None) => {}
        }
        Ok(())
    }
}

/// `number * part / whole`.
fn share(number: u32, part: u32, whole: u32) -> u32 {
    let product = u64::from(number) * u64::from(part);
    product.checked_div(u64::from(whole)).and_then(|share| u32::try_from(share).ok()).unwrap_or(u32::MAX)
}

/// The scale at which a preset's db has about so many bytes.
fn scale_of(bytes: u64, preset: Preset) -> u64 {
    // What the db of each was at scale 1.
    let at_one: u64 = match preset {
        Preset::Big => 2_444_648_448,
        Preset::Frag => 2_469_744_640,
        Preset::Flat => 1_335_975_936,
    };
    u64::try_from(u128::from(bytes) * u128::from(SCALE_ONE) / u128::from(at_one)).unwrap_or(u64::MAX)
}

/// A number with up to six digits behind the point, in millionths.
fn scale(text: &str) -> Result<u64, String> {
    let invalid = || format!("{text:?} is not a scale such as 0.01, 1 or 3.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 6 || (whole.is_empty() && fraction.is_empty())
    {
        return Err(invalid());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let millionths: u64 = format!("{fraction:0<6}").parse().map_err(|_| invalid())?;
    let scale = whole.checked_mul(SCALE_ONE).and_then(|scale| scale.checked_add(millionths));
    scale.filter(|scale| *scale > 0).ok_or_else(invalid)
}

/// A number of bytes: plain, or with KiB, MiB, GiB, KB, MB or GB.
fn size(text: &str) -> Result<u64, String> {
    let invalid = || format!("{text:?} is not a size such as 512MiB or 8GiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(invalid)?;
    let unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(invalid()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(invalid)
}

/// A [`size`] that is not nothing.
fn some_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("0 bytes are too few".to_owned()),
        bytes => Ok(bytes),
    }
}

/// `MIN..MAX`.
fn lengths(text: &str) -> Result<(u32, u32), String> {
    let invalid = || format!("{text:?} is not a range of lengths such as 512..8192");
    let (min, max) = text.split_once("..").ok_or_else(invalid)?;
    Ok((min.parse().map_err(|_| invalid())?, max.parse().map_err(|_| invalid())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(arguments: &[&str]) -> Result<Shape, String> {
        let all = ["generate", "-o", "x"].iter().chain(arguments);
        Args::try_parse_from(all).map_err(|error| error.to_string())?.shape()
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(scale("1"), Ok(SCALE_ONE));
        assert_eq!(scale("0.01"), Ok(SCALE_ONE / 100));
        assert_eq!(scale(".5"), Ok(SCALE_ONE / 2));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert_eq!(size("64000000"), Ok(64_000_000));
        for bad in ["", ".", "-1", "0", "1e3", "1.0000001"] {
            assert!(scale(bad).is_err(), "{bad}");
        }
        for bad in ["", "GiB", "1 GiB", "1TiB", "-1"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_preset_is_kept_where_nothing_is_asked() {
        assert_eq!(shape(&["--preset", "frag", "--seed", "9"]), Ok(Shape::preset(Preset::Frag, 9)));
        let small = shape(&["--preset", "frag", "--scale", "0.01"]).unwrap();
        assert_eq!((small.records, small.live_keys, small.sweep.unwrap().live_keys), (8_917, 4_213, 1_609));
        let size = shape(&["--size", "1222324224"]).unwrap();
        assert_eq!(size.records, 445_860);
    }

    #[test]
    fn shares_follow_what_is_asked() {
        let shape1 =
            shape(&["--revisions", "1000", "--txn-size", "10", "--delete-share", "10", "--live-share", "50"]);
        let shape1 = shape1.unwrap();
        assert_eq!((shape1.records, shape1.deletes, shape1.live_keys), (10_000, 1_000, 4_000));
        let swept = shape(&["--revisions", "1000", "--swept-share", "25", "--sweeps", "3"]).unwrap();
        let sweep = swept.sweep.unwrap();
        assert_eq!((sweep.revisions, sweep.live_keys), (3, swept.live_keys - swept.live_keys / 4));
        for bad in [
            &["--revisions", "0"][..],
            &["--sweeps", "2"],
            &["--value-bytes", "9..3"],
            &["--value-mean", "5000"],
            &["--members", "0"],
            &["--scale", "100000"],
            &["--trailer", "--etcd", "2.3"],
        ] {
            assert!(shape(bad).is_err(), "{bad:?}");
        }
    }
}
