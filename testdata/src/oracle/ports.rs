//! Ports of 127.0.0.1 that nobody else takes while this process lives.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::process;
use std::sync::Mutex;

/// Below the range the kernel picks outgoing ports from, so that no connection can take one between the
/// look and the server's bind.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A lock file per port keeps tests that run at the same time in other processes off it.
static HELD: Mutex<Vec<(u16, File)>> = Mutex::new(Vec::new());

/// `n` different ports of 127.0.0.1 on which nothing listens, reserved for this process until it ends.
pub fn free_ports(n: usize) -> Vec<u16> {
    // A directory for each user: another's could not be written to. A process's own entry in /proc is its user's.
    let user = fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let dir = env::temp_dir().join(format!("etcd-rescue-test-ports-{user}"));
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut held = HELD.lock().expect("no panic while the lock is held");
    let mut ports = Vec::with_capacity(n);
    // Processes start at different places, or each would first try all that the others hold.
    let start = process::id().wrapping_mul(101);
    for step in 0..u32::from(COUNT) {
        if ports.len() == n {
            break;
        }
        let offset = start.wrapping_add(step) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("smaller than COUNT");
        if held.iter().any(|(taken, _)| *taken == port) {
            continue;
        }
        let Ok(lock) = File::options().create(true).append(true).open(dir.join(port.to_string())) else {
            continue;
        };
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            held.push((port, lock));
            ports.push(port);
        }
    }
    assert_eq!(ports.len(), n, "no {n} free ports on 127.0.0.1");
    ports
}
