//! Power cut after every operation of an edit of a member in its place: what is called `member` is the old one or the new one,
//! whole, at every moment, and the old one is never gone.

use std::collections::BTreeMap;
use std::fs;

use super::cuts::{member, traced};
use super::judge::{PARTIAL, materialise};
use super::model::{State, What};
use super::support_hostile::World;
use super::trace::{HARMLESS, Replay, STRING_BYTES, calls, inodes, on_disk};

const LINE: &str = "member update out/m1 8e9e05c52164694d --peer-urls http://10.0.0.9:2380 --in-place";
const MEMBER: &str = "m1/member";

/// What lies below `dir`, but for names that say that they are unfinished.
fn below<'s>(state: &'s State, dir: &str) -> BTreeMap<&'s str, &'s What> {
    let within = |path: &'s String| path.strip_prefix(dir)?.strip_prefix('/');
    let all = state.found.iter().filter_map(|(path, found)| Some((within(path)?, &found.what)));
    all.filter(|(path, _)| !path.ends_with(PARTIAL)).collect()
}

/// The directories beside `member`.
fn beside(state: &State) -> Vec<&str> {
    let names = state.found.keys().filter_map(|path| path.strip_prefix("m1/"));
    names.filter(|name| name.starts_with("member.") && !name.contains('/')).collect()
}

#[test]
fn every_cut_of_an_edit_in_place_leaves_the_old_or_the_new_member_and_the_next_run_copes() {
    let world = World::new();
    materialise(member(), &world.output(""), &BTreeMap::new());
    let mut replay = Replay::of(world.root());
    let mut numbers = inodes(&world.output(""), &replay.fs.now("out").unwrap());
    let all_but = format!("trace=!{HARMLESS}");
    world.guard(|| traced(&world, &["-xx", "-s", STRING_BYTES, "-e", &all_but], LINE)).says(0, &[]);
    let text = fs::read_to_string(world.root().join("trace")).unwrap();
    replay.run(&calls(&text).unwrap()).unwrap();
    let whole = replay.fs.now("out").unwrap();
    assert_eq!(
        whole.found.keys().collect::<Vec<_>>(),
        on_disk(&world.output("")).found.keys().collect::<Vec<_>>()
    );
    numbers.extend(inodes(&world.output(""), &whole));
    let (old, new) = (below(member(), MEMBER), below(&whole, MEMBER));
    assert_ne!(old, new);
    assert_eq!(below(&whole, "m1/member.original"), old);

    let (states, _) = replay.fs.cuts("out", None).unwrap();
    let (mut is_old, mut is_new, mut tried) = (0, 0, BTreeMap::new());
    for state in &states {
        let story = &state.story;
        let found = below(state, MEMBER);
        if found == old {
            is_old += 1;
        } else {
            assert_eq!(found, new, "{story}");
            let kept = |name: &&str| below(state, &format!("m1/{name}")) == old;
            assert!(beside(state).iter().any(kept), "{story}: the old member is gone");
            is_new += 1;
        }
        // What the next run makes of it depends on the names beside the member and on the mark in it.
        let near =
            state.found.keys().filter(|path| path.matches('/').count() < 3 && !path.ends_with("/snap"));
        tried.entry((near.collect::<Vec<_>>(), found == old)).or_insert(state);
    }
    assert!(is_old > 0 && is_new > 2, "{is_old} {is_new}");
    for ((_, was_old), state) in tried {
        world.clear();
        materialise(state, &world.output(""), &numbers);
        let ran = world.line(&format!("{LINE} --clean"));
        let now = on_disk(&world.output(""));
        let story = &state.story;
        // What was edited already has the address, and the original its name.
        ran.says(i32::from(!was_old), if was_old { &[] } else { &["have these addresses already"] });
        assert_eq!(below(&now, MEMBER), new, "{story}");
        let kept = |name: &&str| below(&now, &format!("m1/{name}")) == old;
        assert!(beside(&now).iter().any(kept), "{story}: the old member is gone");
        assert!(!now.found.keys().any(|path| path.contains(PARTIAL)), "{story}: {:?}", now.found.keys());
    }
}
