//! The table that is published.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use testdata::laboratory::DAMAGES;

use super::trial::Tally;

/// What stands around the table in the page.
const OPENS: &str = "<!-- laboratory -->\n";
const CLOSES: &str = "<!-- /laboratory -->";
const HEAD: &str = "\
| damage | trials | records | left | recovered | of those left | other copy taken | wrong, confirmed | wrong, single | wrong, suspect | keys that came back | with another damage: trials | left | recovered | of those left |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";
/// Columns of a row, and those of them that are shares and add up to nothing.
const COLUMNS: usize = 15;
const SHARES: [usize; 2] = [5, 14];

/// What trials came to: of each damage alone, and of all pairs that it is one of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) alone: BTreeMap<&'static str, Tally>,
    pub(crate) paired: BTreeMap<&'static str, Tally>,
    pub(crate) with_map: Tally,
    pub(crate) with_older: Tally,
    pub(crate) with_log: Tally,
    /// With a log that begins with a restored database of which nothing sound is left.
    pub(crate) with_part_of_log: Tally,
}

/// How many of those left were recovered, never rounded up to all.
fn share(recovered: usize, there: usize) -> String {
    if recovered == there {
        return "100 %".to_owned();
    }
    let hundredths = recovered * 10_000 / there.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

impl Table {
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, tally) in &other.alone {
            self.alone.entry(name).or_default().add(*tally);
        }
        for (name, tally) in &other.paired {
            self.paired.entry(name).or_default().add(*tally);
        }
        self.with_map.add(other.with_map);
        self.with_older.add(other.with_older);
        self.with_log.add(other.with_log);
        self.with_part_of_log.add(other.with_part_of_log);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out = String::from(HEAD);
        let mut sum = (Tally::default(), Tally::default());
        let row = |story: &str, alone: Tally, paired: Tally, out: &mut String| {
            let share_alone = share(alone.recovered, alone.there);
            let share_paired = share(paired.recovered, paired.there);
            writeln!(
                out,
                "| {story} | {} | {} | {} | {} | {share_alone} | {} | {} | {} | {} | {} | {} | {} | {} | {share_paired} |",
                alone.trials,
                alone.all,
                alone.there,
                alone.recovered,
                alone.disputed,
                alone.wrong_confirmed + paired.wrong_confirmed,
                alone.wrong_single,
                alone.wrong_suspect,
                alone.came_back,
                paired.trials,
                paired.there,
                paired.recovered
            )
            .unwrap();
        };
        for damage in DAMAGES {
            let of = |tallies: &BTreeMap<&str, Tally>| tallies.get(damage.name).copied().unwrap_or_default();
            let (alone, paired) = (of(&self.alone), of(&self.paired));
            row(damage.story, alone, paired, &mut out);
            sum.0.add(alone);
            sum.1.add(paired);
        }
        row("all of them", sum.0, sum.1, &mut out);
        out.push('\n');
        let mut helped = |what: &str, tally: Tally| {
            let Tally { trials, there, recovered, disputed, wrong_single, wrong_suspect, .. } = tally;
            let share = share(recovered, there);
            writeln!(
                out,
                "- {what}: {trials} trials, {recovered} of {there} records left recovered ({share}), of {disputed} another copy taken; \
                 {wrong_single} wrong and `single`, {wrong_suspect} wrong and `suspect`."
            )
            .unwrap();
        };
        helped("With a map of the pages that could not be read", self.with_map);
        helped("With the file as it was a commit earlier", self.with_older);
        let Tally { trials, all, there, recovered, equal, .. } = self.with_log;
        writeln!(
            out,
            "- With the log covering what is lost: {trials} trials, {recovered} of {all} records recovered, {there} of which were left in \
             pages; {equal} times all records and hashkv were those of the undamaged member."
        )
        .unwrap();
        let Tally { trials, all, there, recovered, .. } = self.with_part_of_log;
        let all_of_them =
            [sum.0, sum.1, self.with_map, self.with_older, self.with_log, self.with_part_of_log];
        let served: usize = all_of_them.iter().map(|tally| tally.served).sum();
        write!(
            out,
            "- With the log of a restored member, of whose restored database nothing sound is left: {trials} trials, {recovered} of {all} \
             records recovered, {there} of which were left in pages.\n\n{served} of the results were started by a real server, which \
             served every key as told.\n"
        )
        .unwrap();
        out
    }

    /// Prints the table, and puts it into the page where that is asked for.
    pub(crate) fn publish(&self) {
        #[allow(clippy::print_stdout, reason = "what a soak is run for")]
        {
            println!("{}", self.markdown());
        }
        if std::env::var_os("ETCD_RESCUE_BLESS").is_some() {
            let text = fs::read_to_string(page()).unwrap();
            let (before, rest) = text.split_once(OPENS).unwrap();
            let (_, after) = rest.split_once(CLOSES).unwrap();
            fs::write(page(), format!("{before}{OPENS}\n{}\n{CLOSES}{after}", self.markdown())).unwrap();
        }
    }
}

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/salvage.md"))
}

/// What is published is of these damages, adds up, and has no wrong value among the confirmed.
#[test]
fn the_published_table_is_one_of_a_soak() {
    let text = fs::read_to_string(page()).unwrap();
    let (_, rest) = text.split_once(OPENS).expect("where the table begins");
    let (table, _) = rest.split_once(CLOSES).expect("where the table ends");
    let table = table.trim_start_matches('\n');
    let rows: Vec<Vec<&str>> = table
        .strip_prefix(HEAD)
        .expect("the head of the table")
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let stories: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let expected: Vec<&str> = DAMAGES.iter().map(|damage| damage.story).chain(["all of them"]).collect();
    assert_eq!(stories, expected);
    let mut sums = [0; COLUMNS];
    let (last, each) = rows.split_last().unwrap();
    for row in each {
        assert_eq!(row.len(), COLUMNS, "{row:?}");
        let number = |column: usize| row[column].parse::<usize>().unwrap_or_else(|e| panic!("{row:?}: {e}"));
        let shares = [(4, 3, 5), (13, 12, 14)];
        for (recovered, there, told) in shares {
            assert_eq!(row[told], share(number(recovered), number(there)), "{row:?}");
        }
        assert!(number(1) > 0 && number(4) <= number(3) && number(3) <= number(2), "{row:?}");
        assert!(number(4) + number(6) <= number(3), "{row:?}");
        assert_eq!(number(7), 0, "wrong and confirmed: {row:?}");
        (1..COLUMNS)
            .filter(|column| !SHARES.contains(column))
            .for_each(|column| sums[column] += number(column));
    }
    for column in (1..COLUMNS).filter(|column| !SHARES.contains(column)) {
        assert_eq!(last[column], sums[column].to_string(), "column {column}");
    }
}
