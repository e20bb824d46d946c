//! What `kv get` and `kv list` share: etcdctl's flags for ranges, and the way from them to an answer.

use std::path::Path;

use clap::Args;
use snapshot::mvcc::query::{self, RangeRequest, SortOrder, SortTarget};
use snapshot::mvcc::{Index, KeyRange, KeyValue, Release};

use super::{bbolt_file, kv_input};
use crate::context::Context;
use crate::etcdctl_output::{Answer, Frame, Printer};
use crate::exit::Failure;
use crate::outcome::{self, Outcome};
use crate::output::Format;

/// The flags of `etcdctl get` that are about the answer.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// The revision to read at [default: the current one]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    rev: i64,
    /// Maximum number of results [default: no limit]
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true)]
    limit: i64,
    /// Order of results: ASCEND or DESCEND
    #[arg(long, value_name = "ORDER", default_value = "", hide_default_value = true)]
    order: String,
    /// What results are sorted by: CREATE, KEY, MODIFY, VALUE or VERSION
    #[arg(long, value_name = "TARGET", default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Only the keys
    #[arg(long)]
    keys_only: bool,
    /// Only the count; not with -w simple, which does not show it
    #[arg(long)]
    count_only: bool,
    /// Only the values, with -w simple
    #[arg(long)]
    print_value_only: bool,
    /// Byte strings in hexadecimal, with -w simple; ids, with -w fields
    #[arg(long)]
    hex: bool,
    /// Only keys created at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true, help_heading = "Filters")]
    min_create_rev: i64,
    /// Only keys created at this revision or earlier
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true, help_heading = "Filters")]
    max_create_rev: i64,
    /// Only keys modified last at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true, help_heading = "Filters")]
    min_mod_rev: i64,
    /// Only keys modified last at this revision or earlier
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    #[arg(allow_negative_numbers = true, help_heading = "Filters")]
    max_mod_rev: i64,
    /// Go on past what is damaged; what can be read is printed
    #[arg(long)]
    skip_bad: bool,
    /// Accepted as etcdctl's, and without effect: files answer the same either way
    #[arg(long, value_name = "l|s", default_value = "l", hide_short_help = true)]
    consistency: String,
}

impl QueryArgs {
    /// The request for the keys in `range`.
    fn request(&self, range: KeyRange) -> Result<RangeRequest, Failure> {
        if self.keys_only && self.count_only {
            return Err(Failure::usage(
                "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            ));
        }
        if !matches!(self.consistency.as_str(), "l" | "s") {
            return Err(Failure::usage(format!("unknown consistency flag {:?}", self.consistency)));
        }
        let sort_order = match self.order.to_ascii_uppercase().as_str() {
            "" => SortOrder::None,
            "ASCEND" => SortOrder::Ascend,
            "DESCEND" => SortOrder::Descend,
            _ => return Err(Failure::usage(format!("bad sort order {}", self.order))),
        };
        let sort_target = match self.sort_by.to_ascii_uppercase().as_str() {
            "" | "KEY" => SortTarget::Key,
            "CREATE" => SortTarget::Create,
            "MODIFY" => SortTarget::Modify,
            "VALUE" => SortTarget::Value,
            "VERSION" => SortTarget::Version,
            _ => return Err(Failure::usage(format!("bad sort target {}", self.sort_by))),
        };
        let between = |name: &str, min: i64, max: i64| {
            if max > 0 && min > max {
                let message = format!("getMin{name}Rev(={min}) > getMax{name}Rev(={max})");
                return Err(Failure::usage(message));
            }
            Ok((min.max(0), max.max(0)))
        };
        let create_revisions = between("Create", self.min_create_rev, self.max_create_rev)?;
        let mod_revisions = between("Mod", self.min_mod_rev, self.max_mod_rev)?;
        Ok(RangeRequest {
            range,
            revision: self.rev.max(0),
            limit: self.limit.max(0),
            sort_order,
            sort_target,
            keys_only: self.keys_only,
            count_only: self.count_only,
            create_revisions,
            mod_revisions,
        })
    }
}

/// Answers the request for the keys in `range`.
///
/// # Errors
/// When the flags contradict each other, the input cannot be read, or the revision is not kept.
pub(super) fn run(
    path: &Path,
    range: KeyRange,
    args: &QueryArgs,
    context: &Context,
) -> Result<Outcome, Failure> {
    let request = args.request(range)?;
    let printer = Printer::new(context.format, args.hex, args.print_value_only)?;
    if request.count_only && context.format == Format::Simple {
        return Err(Failure::usage("--count-only is only for `--write-out=fields`, json and protobuf"));
    }
    let input = kv_input::open(path, context)?;
    let db = input.db()?;
    let options = request.index_options(Release::default(), args.skip_bad);
    let index = Index::build(&db, &options, context.watch.as_ref())
        .map_err(|error| input.not_read(&error, !args.skip_bad))?;
    let answer = query::range(&index, &request, context.watch.as_ref())?;
    context.watch.finish();
    let mut notes = input.notes.clone();
    notes.extend(input.behind_its_log(index.schema()));
    outcome::tell(&notes, context.quiet);
    let frame = Frame {
        identity: input.identity(),
        revision: answer.revision,
        more: answer.more,
        count: answer.count,
    };
    let mut unreadable = None;
    bbolt_file::to_stdout_stoppable(context.watch.as_ref(), |out| {
        let mut printed = Answer::begin(out, printer, frame)?;
        for entry in &answer.records {
            let record = match index.record(entry) {
                Ok(record) => record,
                Err(error) => {
                    unreadable = Some(error);
                    return Ok(());
                }
            };
            let kv = KeyValue::decode(&record.bytes).unwrap_or_default();
            let value = if request.keys_only { &[][..] } else { kv.value };
            printed.record(&KeyValue { value, ..kv })?;
        }
        printed.end()
    })?;
    if let Some(error) = unreadable {
        return Err(Failure::failed(format!("{}: {error}; what was printed is not all", path.display())));
    }
    let mut outcome = Outcome::default();
    outcome.note_findings_after(index.findings());
    Ok(outcome)
}
