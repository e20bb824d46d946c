//! The one file with `unsafe`: mapping a file, and what happens when the disk fails under the map.
//!
//! Contract. A [`Map`] is a shared, read-only mapping of a file that this process never writes. The bytes can still
//! change or vanish when another process writes or truncates the file; that is why the db's lock is taken before, why
//! every read is held against the length that was mapped, and why every parser copes with any bytes. A page that
//! cannot be read (a dying disk, a file cut short since) raises SIGBUS; the handler installed here turns that into a message
//! that names file and offset, and exit code 1, which is all an asynchronous handler can soundly do.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::source::{Source, SourceError, slice_of};

/// A file in memory.
#[derive(Debug)]
pub struct Map {
    map: memmap2::Mmap,
    slot: Option<usize>,
}

impl Map {
    /// Maps `file` read-only; `path` is how a failure under the map names it.
    ///
    /// # Errors
    /// When the system cannot map the file: it is empty, no regular file, or larger than the address space.
    pub fn new(file: &File, path: &Path) -> std::io::Result<Self> {
        install_handler();
        // SAFETY: see the module's contract; the map is read-only and its bytes are treated as hostile.
        let map = unsafe { memmap2::Mmap::map(file)? };
        let slot = register(&map, path);
        Ok(Self { map, slot })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.and_then(|s| MAPS.get(s)) {
            slot.start.store(0, Ordering::SeqCst);
        }
        self.forget_pages();
    }
}

/// Bytes of a map from which on it pays to let all cores take it down.
const LARGE_BYTES: usize = 256 << 20;
/// How much of it one core takes at a time, in bytes: a multiple of any page size.
const FORGET_BYTES: usize = 32 << 20;

impl Map {
    /// Takes a large map's pages out of the address space on all cores; unmapping does the same on one.
    fn forget_pages(&self) {
        if self.map.len() < LARGE_BYTES {
            return;
        }
        (0..self.map.len().div_ceil(FORGET_BYTES)).into_par_iter().for_each(|part| {
            let start = part * FORGET_BYTES;
            let len = FORGET_BYTES.min(self.map.len() - start);
            // SAFETY: the pages are the file's and were never written; whoever read them again would see the file.
            // Failure leaves them where they are, until they are unmapped.
            _ = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        });
    }
}

impl Source for Map {
    fn len_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>, SourceError> {
        slice_of(&self.map, offset, len)
    }

    #[inline]
    fn will_read(&self, offset: u64, len: u64) {
        if let Ok(Cow::Borrowed(bytes)) = slice_of(&self.map, offset, len) {
            bytes.iter().step_by(CACHE_LINE_BYTES).for_each(prefetch);
        }
    }
}

/// What the processor fetches at once, in bytes.
const CACHE_LINE_BYTES: usize = 64;

/// Fetches the line of `byte` into the cache, if its page is in memory; a page that is not stays where it is.
#[cfg(target_arch = "x86_64")]
fn prefetch(byte: &u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 has the instruction, and it neither faults nor changes anything, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
}

/// There is no stable way to ask for it here.
#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_byte: &u8) {}

/// Maps that the handler can name; more than that at once are served all the same, with a shorter message.
const MOST_MAPS: usize = 64;

/// One map's place, for the handler. `start` 0 means free, 1 being taken. Names are never freed: the handler may be
/// reading one, and there are few.
struct Registered {
    start: AtomicUsize,
    len: AtomicUsize,
    name: AtomicPtr<libc::c_char>,
}

static MAPS: [Registered; MOST_MAPS] = [const {
    Registered {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        name: AtomicPtr::new(std::ptr::null_mut()),
    }
}; MOST_MAPS];

fn register(map: &[u8], path: &Path) -> Option<usize> {
    let index = MAPS
        .iter()
        .position(|slot| slot.start.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok())?;
    let slot = MAPS.get(index)?;
    let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let before = slot.name.swap(name.into_raw(), Ordering::SeqCst);
    if !before.is_null() {
        // SAFETY: it came from `into_raw` here, for a map that is gone. The handler reads the name of a slot only for an address in
        // that slot's map, and this slot has none yet.
        drop(unsafe { CString::from_raw(before) });
    }
    slot.len.store(map.len(), Ordering::SeqCst);
    slot.start.store(map.as_ptr() as usize, Ordering::SeqCst);
    Some(index)
}

/// Installs the SIGBUS handler, once.
fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `action` is fully initialised, the handler only calls async-signal-safe functions.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info` to an SA_SIGINFO handler.
    let address = unsafe { (*info).si_addr() } as usize;
    let hit = MAPS.iter().find_map(|slot| {
        let start = slot.start.load(Ordering::SeqCst);
        let inside = start > 1 && address.wrapping_sub(start) < slot.len.load(Ordering::SeqCst);
        inside.then(|| (slot.name.load(Ordering::SeqCst), address.wrapping_sub(start)))
    });
    let Some((name, offset)) = hit else {
        // SAFETY: async-signal-safe; with the default action restored, the fault happens again and ends the process.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        return;
    };
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    let mut rest = offset;
    loop {
        first -= 1;
        if let (Some(digit), Ok(value)) = (digits.get_mut(first), u8::try_from(rest % 10)) {
            *digit = b'0' + value;
        }
        rest /= 10;
        if rest == 0 || first == 0 {
            break;
        }
    }
    say(b"Error: ");
    if !name.is_null() {
        // SAFETY: a registered name is a C string that is never freed.
        say(unsafe { std::ffi::CStr::from_ptr(name) }.to_bytes());
    }
    say(b": cannot read the page at byte ");
    say(digits.get(first..).unwrap_or_default());
    say(b": the disk failed, or the file was cut short while it was read. Try again with --io pread, which reports it as an ordinary read error.\n");
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(1) };
}

fn say(bytes: &[u8]) {
    // SAFETY: async-signal-safe; the slice is valid for its length. A failed write has nobody to be told to.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}
