//! Who votes, and whether a set of members can elect or commit.
//!
//! A change of members is in force at a member once that has applied it, so that different ones may go by different
//! configurations at a time. Which they can be, about an entry of which is asked whether it is (or may be) committed:
//!
//! * None that a change *at or behind* the entry makes: who lacks the entry has not applied what follows it; and who counts
//!   it committed has not applied what follows it before.
//! * None that was replaced by the second but last change known to be committed. etcd's leaders propose a change only when they
//!   have applied the one before, and they send their commit along with each entry; so who holds the later change goes by the
//!   earlier one at the least, and who does not hold it lacks a committed entry and wins no election.
//!
//! So they are: the one in force at the last certain entry before it, the one before that, and those that changes in
//! between make. To *prove an entry certain* the one before need not be asked: a change adds or removes one voter, so
//! that every quorum before it and every one after it share a member. To *prove it lost* each of them is asked.

use std::collections::BTreeSet;

use super::{Config, Testimony};

/// Whether `members` are a quorum of `config`.
pub(super) fn is_quorum(config: &Config, members: &BTreeSet<u64>) -> bool {
    let present = config.voters.iter().filter(|voter| members.contains(voter)).count();
    present > config.voters.len() / 2
}

/// The configurations that may be in force about the entry `index` by the account of `testimony`, where all up to `certain` is
/// committed; with the one before them when `with_older`. `None` where it does not know.
pub(super) fn in_force(
    testimony: &Testimony,
    certain: u64,
    index: u64,
    with_older: bool,
) -> Option<impl Iterator<Item = &Config>> {
    let configs = &testimony.configs;
    let settled = configs.partition_point(|(made, _)| *made <= certain.min(index.saturating_sub(1)));
    let until = configs.partition_point(|(made, _)| *made < index);
    let from = settled.checked_sub(1)?;
    let from = if with_older { from.saturating_sub(1) } else { from };
    Some(configs.get(from..until.max(settled))?.iter().map(|(_, config)| config))
}

/// The indexes in `first..=last` at which the account of `testimony` changes.
pub(super) fn changes(testimony: &Testimony, first: u64, last: u64) -> impl Iterator<Item = u64> {
    testimony.configs.iter().map(|(made, _)| *made).filter(move |made| (first..=last).contains(made))
}
