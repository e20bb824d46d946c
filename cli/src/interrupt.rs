//! Ctrl-C and SIGTERM: the first asks the job to stop and clean up, the second ends the process as if nobody listened.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::exit;

/// Whether, and by what, the job was asked to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts listening.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        // A file size limit (ulimit -f) then is an error of the write that met it, not the end of the process.
        flag::register(SIGXFSZ, Arc::default())?;
        for signal in [SIGINT, SIGTERM] {
            // Actions run in this order: the default one applies only when an earlier signal had set the flag.
            flag::register_conditional_default(signal, Arc::clone(&interrupt.asked))?;
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&interrupt.signal), number)?;
            flag::register(signal, Arc::clone(&interrupt.asked))?;
        }
        Ok(interrupt)
    }

    /// True once asked to stop.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// What a job that was stopped exits with: 128 and the signal's number.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        let signal = self.asked().then(|| self.signal.load(Ordering::Relaxed))?;
        Some(exit::SIGNAL_BASE.saturating_add(u8::try_from(signal).unwrap_or_default()))
    }
}
