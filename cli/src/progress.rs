//! Progress on stderr: for jobs over a second, on a terminal, and not with `--quiet`.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bbolt::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt::Interrupt;

/// Shorter jobs show nothing.
const SHOW_AFTER: Duration = Duration::from_secs(1);
/// The bar learns of progress in steps of this many bytes, a power of two, so that many threads can report cheaply.
const STEP_BYTES: u64 = 1 << 20;
/// How often a visible bar is redrawn, progress or not.
const REDRAW: Duration = Duration::from_millis(250);

/// The bar of the stage under way.
struct Stage {
    bar: ProgressBar,
    visible: bool,
}

/// Watches a job for the person in front of the terminal.
pub(crate) struct Progress {
    interrupt: Interrupt,
    enabled: bool,
    started: Instant,
    done_bytes: AtomicU64,
    stage: Mutex<Option<Stage>>,
}

impl Progress {
    /// A watch that shows bars unless `quiet`, or stderr is no terminal.
    pub(crate) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        Self {
            interrupt,
            enabled: !quiet && io::stderr().is_terminal(),
            started: Instant::now(),
            done_bytes: AtomicU64::new(0),
            stage: Mutex::new(None),
        }
    }

    /// Takes the bar away, so that other text can follow.
    pub(crate) fn finish(&self) {
        if let Some(stage) = self.lock().take() {
            stage.bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stage>> {
        // A thread that died while holding it left a bar, and a bar is always fit for use.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, stage: &mut Stage) {
        if !stage.visible && self.started.elapsed() >= SHOW_AFTER {
            stage.bar.set_draw_target(ProgressDrawTarget::stderr());
            stage.bar.enable_steady_tick(REDRAW);
            stage.visible = true;
        }
        stage.bar.set_position(self.done_bytes.load(Ordering::Relaxed));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl Watch for Progress {
    fn begin(&self, stage: &'static str, total_bytes: u64) {
        if !self.enabled {
            return;
        }
        self.finish();
        self.done_bytes.store(0, Ordering::Relaxed);
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::hidden());
        let template = if total_bytes == 0 {
            "{msg}: {bytes} {binary_bytes_per_sec}"
        } else {
            "{msg}: {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left"
        };
        // The templates above are valid; the plain bar would do as well.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(stage);
        *self.lock() = Some(Stage { bar, visible: false });
    }

    fn advance(&self, bytes: u64) {
        if !self.enabled {
            return;
        }
        let before = self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP_BYTES == before.wrapping_add(bytes) / STEP_BYTES {
            return;
        }
        // Whoever holds the lock is drawing already: no worker waits for the terminal.
        let mut guard = match self.stage.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(stage) = guard.as_mut() {
            self.update(stage);
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }
}

/// Log lines on stderr, which lift the bar out of the way while they are written.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter(pub(crate) Arc<Progress>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = self.0.lock().as_ref().map(|stage| stage.bar.clone());
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
