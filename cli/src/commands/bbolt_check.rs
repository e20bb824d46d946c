//! `bbolt check`: everything that is wrong with a bbolt file, and what that means to etcd.

use std::io::{self, Write};
use std::path::PathBuf;

use bbolt::check::{self, Finding as Fault, Report, Severity};
use bbolt::fault::readable;
use bbolt::{Db, PageId, Source};
use clap::Args;
use serde_json::{Map, Value, json};
use snapshot::meaning::{self, Meaning};
use snapshot::structure;

use super::salvage;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Format};
use crate::shown::shown;
use crate::stream;

/// Verifies the integrity of a bbolt database, completely
///
/// Prints OK, or every fault with its page, offset, bucket and range of keys, then what that means where the file is etcd's, and
/// how many there are. Finds what bbolt's check finds and what it leaves out: elements outside their page, inline buckets, cycles,
/// metas and freelist, and shapes that kill a server later. What a server lives with is told on stderr. Exit code 3 with
/// findings of either kind.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue bbolt check /var/lib/etcd/member/snap/db
  etcd-rescue bbolt check --from-page 812 /var/lib/etcd/member/snap/db")]
pub(crate) struct CheckArgs {
    /// A bbolt file, a snapshot or a data dir
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Check only what lies below this page [0: the whole file]
    #[arg(long, value_name = "PAGE", default_value_t = 0, hide_default_value = true)]
    from_page: u64,
}

/// Checks the file.
///
/// # Errors
/// When the file cannot be read or has no valid meta, the page asked for is none of a tree's, or the user asked to stop.
pub(crate) fn run(args: &CheckArgs, context: &Context) -> Result<Outcome, Failure> {
    if !matches!(context.format, Format::Simple | Format::Json) {
        return Err(Failure::usage("bbolt check prints -w simple or -w json"));
    }
    let (input, notes) = context.open(&args.input)?;
    let db = input.db().map_err(|error| Failure::failed(format!("{}: {error}", args.input.display())))?;
    let report = checked(&db, args.from_page, context)?;
    let meanings = meaning::meaning(&db, &report);
    let mut outcome = Outcome { before: notes, ..Outcome::default() };
    let of = |severity| report.findings.iter().filter(move |finding| finding.severity == severity);
    let warnings = of(Severity::Warning).map(|warning| Note::Warning(line(warning)));
    outcome.before.extend(warnings);
    let errors = of(Severity::Error).count() as u64 + report.dropped;
    if errors > 0 || report.findings.iter().any(|finding| finding.severity == Severity::Warning) {
        outcome.code = exit::FINDINGS;
    }
    if errors > 0 {
        outcome.after.push(salvage::hint(&args.input));
    }
    if context.format == Format::Json {
        outcome.result = output::json(&json(&report, errors, &meanings))?;
    } else {
        let told = of(Severity::Error);
        stream::to_stdout(|out| print(out, told, &report, errors, &meanings))?;
    }
    Ok(outcome)
}

fn checked<S: Source>(db: &Db<S>, from_page: u64, context: &Context) -> Result<Report, Failure> {
    let watch = context.watch.as_ref();
    let pages = db.meta().high_water_mark;
    let report = match from_page {
        0 => check::check(db, watch),
        page if (2..pages).contains(&page) => check::check_from(db, PageId(page), watch),
        page => return Err(Failure::usage(format!("page ID ({page}) out of range [2, {pages})"))),
    };
    if report.interrupted {
        return Err(Failure::failed(structure::Interrupted.to_string()));
    }
    Ok(report)
}

fn print<'a>(
    out: &mut dyn Write,
    errors: impl Iterator<Item = &'a Fault>,
    report: &Report,
    count: u64,
    meanings: &[Meaning],
) -> io::Result<()> {
    for error in errors {
        writeln!(out, "{}", line(error))?;
    }
    if report.dropped > 0 {
        writeln!(out, "{} more are not listed", report.dropped)?;
    }
    for meaning in meanings {
        writeln!(out, "etcd: {}", shown(&meaning.to_string()))?;
    }
    if count > 0 { writeln!(out, "{count} errors found") } else { writeln!(out, "OK") }
}

/// One finding in one line: severity, code, what is wrong and where.
fn line(finding: &Fault) -> String {
    let severity = word(finding.severity);
    let mut text = format!("{severity} {}: {}", finding.fault.code(), finding.fault);
    let mut place = Vec::new();
    if let Some(parent) = finding.parent {
        place.push(format!("named by page {parent}"));
    }
    if !finding.bucket.is_empty() {
        let names: Vec<String> = finding.bucket.iter().map(|name| readable(name)).collect();
        place.push(format!("bucket {}", names.join("/")));
    }
    match &finding.key_range {
        Some((low, Some(high))) if low.is_empty() => place.push(format!("keys before {}", readable(high))),
        Some((low, Some(high))) => {
            place.push(format!("keys from {} to before {}", readable(low), readable(high)));
        }
        Some((low, None)) if !low.is_empty() => place.push(format!("keys from {} on", readable(low))),
        _ => {}
    }
    if !place.is_empty() {
        text += &format!(" ({})", place.join(", "));
    }
    shown(&text)
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// The report as JSON. Keys and names that are UTF-8 are strings; others stand in hexadecimal under the name with `Hex`
/// behind it.
fn json(report: &Report, errors: u64, meanings: &[Meaning]) -> Value {
    let findings: Vec<Value> = report.findings.iter().map(finding_json).collect();
    let told = |meaning: &Meaning| json!({ "holds": meaning, "text": meaning.to_string() });
    let counted = &report.statistics;
    json!({
        "sound": report.is_sound(),
        "errors": errors,
        "notListed": report.dropped,
        "findings": findings,
        "meaning": meanings.iter().map(told).collect::<Vec<_>>(),
        "checked": {
            "pages": counted.pages,
            "branchPages": counted.branch_pages,
            "leafPages": counted.leaf_pages,
            "overflowPages": counted.overflow_pages,
            "freePages": counted.free_pages,
            "buckets": counted.buckets,
            "inlineBuckets": counted.inline_buckets,
            "keys": counted.keys,
            "depth": counted.depth,
        },
    })
}

fn finding_json(finding: &Fault) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("code", finding.fault.code().into());
    put("severity", word(finding.severity).into());
    put("page", finding.fault.page.0.into());
    put("offset", finding.fault.span.offset.into());
    put("lenBytes", finding.fault.span.len.into());
    if let Some(parent) = finding.parent {
        put("parent", parent.0.into());
    }
    let names: Result<Vec<&str>, _> = finding.bucket.iter().map(|name| str::from_utf8(name)).collect();
    match names {
        Ok(names) => put("bucket", names.into()),
        Err(_) => put("bucketHex", finding.bucket.iter().map(|name| hex(name)).collect::<Vec<_>>().into()),
    };
    if let Some((low, high)) = &finding.key_range {
        for (name, key) in
            [("fromKey", Some(low).filter(|low| !low.is_empty())), ("beforeKey", high.as_ref())]
        {
            match key.map(|key| (key, str::from_utf8(key))) {
                Some((_, Ok(text))) => _ = put(name, text.into()),
                Some((key, Err(_))) => _ = put(&format!("{name}Hex"), hex(key).into()),
                None => {}
            }
        }
    }
    put("message", finding.fault.to_string().into());
    Value::Object(members)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
