//! Power cut after every operation of what changes a case file: it is the old one or the new one, whole, at every moment, and the next run
//! copes. (A case holds the command lines that made it, so two runs with other flags do not write the same bytes, and it is in no table
//! of jobs.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rstest::rstest;

use super::cuts::{source, traced};
use super::judge::{PARTIAL, materialise};
use super::model::{State, What};
use super::support_hostile::World;
use super::trace::{HARMLESS, Replay, STRING_BYTES, calls, inodes, on_disk};

const NEW: &str = "case new out/c.case";
const ADD: &str = "case add out/c.case s=in/source.db --embed-values";
const SEAL: &str = "case seal out/c.case --examiner somebody --note here";
const REPORTED: [i32; 2] = [0, 3];

/// What lies there under names that do not say that it is unfinished.
fn final_names(state: &State) -> BTreeMap<&str, &What> {
    let all = state.found.iter().filter(|(path, _)| !path.contains(PARTIAL));
    all.map(|(path, found)| (path.as_str(), &found.what)).collect()
}

#[rstest]
#[case(&[], NEW)]
#[case(&[NEW], ADD)]
#[case(&[NEW, ADD], SEAL)]
fn every_cut_leaves_the_old_or_the_new_case_and_the_next_run_copes(
    #[case] before: &[&str],
    #[case] line: &str,
) {
    let world = World::new();
    world.put("source.db", source());
    for line in before {
        let ran = world.line(line);
        assert!(ran.code.is_some_and(|code| REPORTED.contains(&code)), "{ran:#?}");
    }
    let was = on_disk(&world.output(""));
    let mut replay = Replay::of(world.root());
    let mut numbers = inodes(&world.output(""), &replay.fs.now("out").unwrap());
    let all_but = format!("trace=!{HARMLESS}");
    let ran = world.guard(|| traced(&world, &["-xx", "-s", STRING_BYTES, "-e", &all_but], line));
    assert!(ran.code.is_some_and(|code| REPORTED.contains(&code)), "{ran:#?}");
    let text = fs::read_to_string(world.root().join("trace")).unwrap();
    replay.run(&calls(&text).unwrap()).unwrap();
    let whole = replay.fs.now("out").unwrap();
    assert_eq!(final_names(&whole), final_names(&on_disk(&world.output(""))));
    numbers.extend(inodes(&world.output(""), &whole));
    let (old, new) = (final_names(&was), final_names(&whole));
    assert_ne!(old, new);

    let (states, _) = replay.fs.cuts("out", None).unwrap();
    let (mut is_old, mut is_new, mut tried) = (0, 0, BTreeSet::new());
    for state in &states {
        let story = &state.story;
        let found = final_names(state);
        assert!(found == old || found == new, "{line}: neither the old nor the new case, {story}");
        is_old += u32::from(found == old);
        is_new += u32::from(found == new);
        if !tried
            .insert((state.found.keys().map(|path| path.contains(PARTIAL)).collect::<Vec<_>>(), found == old))
        {
            continue;
        }
        world.clear();
        materialise(state, &world.output(""), &numbers);
        let again = world.line(&format!("{line} --clean"));
        if line == NEW && found == new {
            again.says(1, &["it is not overwritten"]);
        } else {
            assert!(again.code.is_some_and(|code| REPORTED.contains(&code)), "{story}: {again:#?}");
        }
        let names = world.names();
        assert!(
            found == new && line == NEW || !names.iter().any(|name| name.contains(PARTIAL)),
            "{story}: {names:?}"
        );
        world.line("case verify out/c.case").says(0, &[]);
    }
    assert!(is_old > 0 && is_new > 0, "{line}: {is_old} {is_new}");
}
