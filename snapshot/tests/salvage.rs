//! Salvage on files made here, whose content is known record by record, damaged page by page.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[path = "salvage/account.rs"]
mod account;
mod common;
#[path = "salvage/damages.rs"]
mod damages;
#[path = "salvage/doubts.rs"]
mod doubts;
#[path = "salvage/hazards.rs"]
mod hazards;
#[path = "salvage/member.rs"]
mod member;
#[path = "salvage/oddities.rs"]
mod oddities;
#[path = "salvage/remnants.rs"]
mod remnants;
#[path = "salvage/sound.rs"]
mod sound;
#[path = "salvage/spoiled.rs"]
mod spoiled;
