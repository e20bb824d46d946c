//! Progress on a terminal, and the wish to stop.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bbolt::Watch;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Added to the number of the signal that ended the job, as shells do.
const SIGNAL_BASE: u8 = 128;

/// Shows how far a job is, and knows whether it was asked to stop.
#[derive(Debug)]
pub(crate) struct Progress {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress {
    /// Starts to listen for Ctrl-C and SIGTERM; a second one ends the process at once.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub(crate) fn listen(quiet: bool) -> io::Result<Self> {
        let progress = Self {
            asked: Arc::default(),
            signal: Arc::default(),
            shown: !quiet && io::stderr().is_terminal(),
            bar: Mutex::new(None),
        };
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&progress.asked))?;
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&progress.signal), number)?;
            flag::register(signal, Arc::clone(&progress.asked))?;
        }
        Ok(progress)
    }

    /// What a job that was stopped exits with.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        let signal = self.interrupted().then(|| self.signal.load(Ordering::Relaxed))?;
        Some(SIGNAL_BASE.saturating_add(u8::try_from(signal).unwrap_or_default()))
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Progress {
    fn begin(&self, stage: &'static str, total_bytes: u64) {
        self.finish();
        if self.shown {
            let style = ProgressStyle::with_template(
                "{msg}: {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left",
            );
            let bar = ProgressBar::new(total_bytes)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_message(stage);
            bar.enable_steady_tick(Duration::from_millis(250));
            *self.lock() = Some(bar);
        }
    }

    fn advance(&self, bytes: u64) {
        if self.shown
            && let Some(bar) = self.lock().as_ref()
        {
            bar.inc(bytes);
        }
    }

    fn interrupted(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}
