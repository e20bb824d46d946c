//! What every command that writes is asked for.

use clap::Args;
use snapshot::restore::Owner;

use crate::exit::Failure;
use crate::owner::Accounts;

/// Whether and for whom it writes.
#[derive(Debug, Clone, Args)]
pub(super) struct WriteArgs {
    /// Do everything but write
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove what earlier, killed runs left at the same place
    #[arg(long)]
    pub(super) clean: bool,
    /// Who owns the output, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) owner: Option<String>,
}

impl WriteArgs {
    /// The owner, where one was named; an error says what is not known of it.
    pub(super) fn owner(&self) -> Result<Option<Owner>, Failure> {
        let owner = self.owner.as_deref().map(|text| Accounts::of_system().resolve(text)).transpose();
        owner.map_err(Failure::usage)
    }
}
