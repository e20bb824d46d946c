//! Runs the runbooks: what a page says, and the hosts it says it to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, which clippy does not see as tests"
)]

mod addresses;
mod kubelet;
mod page;
mod releases;
mod scene;
mod site;

pub(crate) use kubelet::Kubelet;
pub(crate) use page::pages;
pub(crate) use scene::{THREE, gone, history, kept, settle};
pub(crate) use site::Site;
