//! Ctrl-C, Ctrl-\, SIGTERM and a terminal that goes away: the first asks the job to stop and clean up, the second ends the
//! process as if nobody listened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
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
        let ignored = ignored();
        // Under nohup the terminal may go away; the job stays.
        let hangup = Some(SIGHUP).filter(|signal| ignored & bit(*signal) == 0);
        for signal in [SIGINT, SIGQUIT, SIGTERM].into_iter().chain(hangup) {
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

/// The signals this process was started to ignore, each as its [`bit`]; none where the system does not tell.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// A signal's place in the masks of `/proc`.
fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or_default()
}
