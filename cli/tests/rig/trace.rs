//! What a run did to the file system, from a recording by strace.
//!
//! Everything is recorded but calls that are known to change nothing ([`HARMLESS`]); a recorded call that is not known
//! here is an error, so that no way of changing files slips through unseen.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::model::{Content, Edit, Fs, Ino, Node, ROOT, State};

/// Calls that are not recorded: they change neither files nor what a file descriptor means. (Where one is received with
/// `recvfrom` no file came with it: that takes `recvmsg`.)
pub(crate) const HARMLESS: &str = "pread64,preadv,preadv2,futex,munmap,mprotect,mremap,brk,madvise,rt_sigprocmask,rt_sigaction,\
    rt_sigreturn,sigaltstack,sched_yield,sched_getaffinity,nanosleep,clock_nanosleep,clock_gettime,gettid,getpid,getppid,\
    stat,fstat,lstat,newfstatat,statx,statfs,fstatfs,readlink,readlinkat,access,faccessat,faccessat2,getdents64,getcwd,\
    getrandom,rseq,set_robust_list,set_tid_address,prlimit64,poll,ppoll,arch_prctl,getuid,geteuid,getgid,getegid,uname,\
    sysinfo,exit,exit_group,restart_syscall,tgkill,fadvise64,readahead,flock,sched_setaffinity,getrusage,mincore,\
    flistxattr,fgetxattr,membarrier,recvfrom,sendto,epoll_ctl,epoll_wait,prctl,gettimeofday";
/// Bytes of one string that are recorded: more than any single write.
pub(crate) const STRING_BYTES: &str = "67108864";

/// One finished system call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    name: String,
    args: Vec<String>,
    /// What it returned; `None` when it failed, or never did.
    result: Option<i64>,
    line: String,
}

/// Calls that stand in the order of their starts. A sync promises what was written when it began, and not what others
/// wrote until it came back. A number is free as soon as `close` begins, and another call may be given it before that
/// ends.
const FROM_THEIR_STARTS: [&str; 6] = ["fsync", "fdatasync", "sync_file_range", "sync", "syncfs", "close"];

/// A call that began and was not seen to end yet.
struct Begun {
    text: String,
    /// Its place among the calls, if that is of its start.
    place: Option<usize>,
}

/// The calls of a recording that has been written to `file` with `strace -f -qq -xx -o`, in the order of their ends, but
/// [`FROM_THEIR_STARTS`].
///
/// # Errors
/// The first line that cannot be understood.
pub(crate) fn calls(text: &str) -> Result<Vec<Call>, String> {
    let mut unfinished: BTreeMap<&str, Begun> = BTreeMap::new();
    // What has not ended yet has an empty place; what never does leaves it so.
    let mut calls: Vec<Option<Call>> = Vec::new();
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').ok_or_else(|| format!("no process id: {line}"))?;
        let rest = rest.trim_start();
        // The last: a thread that the end of its process met on the way into a call, which was not made.
        if rest.starts_with("+++") || rest.starts_with("---") || rest == "???( <detached ...>" {
            continue;
        }
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            let name = start.split('(').next().unwrap_or_default();
            let place = FROM_THEIR_STARTS.contains(&name).then_some(calls.len());
            if place.is_some() {
                calls.push(None);
            }
            unfinished.insert(pid, Begun { text: start.trim_end().to_owned(), place });
            continue;
        }
        let Some(resumed) = rest.strip_prefix("<... ") else {
            calls.push(Some(call(rest)?));
            continue;
        };
        let start = unfinished.remove(pid).ok_or_else(|| format!("resumed from nowhere: {}", shown(line)))?;
        let (_, tail) = resumed.split_once(" resumed>").ok_or_else(|| format!("unclear: {}", shown(line)))?;
        let whole = call(&(start.text + tail))?;
        match start.place {
            Some(place) => calls[place] = Some(whole),
            None => calls.push(Some(whole)),
        }
    }
    Ok(calls.into_iter().flatten().collect())
}

fn call(line: &str) -> Result<Call, String> {
    let unclear = || format!("unclear: {}", shown(line));
    let (name, rest) = line.split_once('(').ok_or_else(unclear)?;
    let (mut depth, mut at, mut from) = (0_u32, 0, 0);
    let mut args = Vec::new();
    let mut end = None;
    let bytes = rest.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b')' if depth == 0 => {
                end = Some(at);
                break;
            }
            // Nothing within is a quote: all of it is in hexadecimal.
            b'"' => at += 1 + rest[at + 1..].find('"').ok_or_else(unclear)?,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                args.push(rest[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    args.push(rest[from..at].trim().to_owned());
    let tail = &rest[end.ok_or_else(unclear)? + 1..];
    let result = tail.trim_start().strip_prefix('=').ok_or_else(unclear)?.trim_start();
    let word = result.split_whitespace().next().ok_or_else(unclear)?;
    let result = match word {
        "?" | "-1" => None,
        word => match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => Some(word.parse().map_err(|_| unclear())?),
        },
    };
    Ok(Call { name: name.to_owned(), args, result, line: shown(line) })
}

/// The start of a line, which may hold megabytes.
fn shown(line: &str) -> String {
    line.chars().take(300).collect()
}

/// The bytes of all strings in an argument.
fn strings(arg: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = arg;
    while let Some((_, after)) = rest.split_once('"') {
        let (quoted, after) = after.split_once('"').ok_or_else(|| format!("unclear: {}", shown(arg)))?;
        if after.starts_with('.') {
            return Err(format!("recorded in part only: {}", shown(arg)));
        }
        let escapes = quoted.as_bytes().chunks(4);
        out.reserve(escapes.len());
        for escape in escapes {
            let byte = match escape {
                [b'\\', b'x', high, low] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
                _ => None,
            };
            out.push(byte.ok_or_else(|| format!("not in hexadecimal: {}", shown(arg)))?);
        }
        rest = after;
    }
    Ok(out)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// An open file.
#[derive(Debug, Clone)]
struct Open {
    /// `None` outside the world.
    ino: Option<Ino>,
    /// Shared by duplicates, which are numbered alike.
    cursor: usize,
}

/// A world that a recorded run changed, and the run's operations on it.
pub(crate) struct Replay {
    /// The file system with its operations.
    pub fs: Fs,
    root: PathBuf,
    open: BTreeMap<i64, Open>,
    cursors: Vec<u64>,
}

impl Replay {
    /// The world as it is on the disk at `root`, before the run.
    pub(crate) fn of(root: &Path) -> Self {
        let root = root.canonicalize().unwrap();
        let mut fs = Fs::default();
        read_tree(&mut fs, ROOT, &root);
        fs.settle();
        let standard = (0..3).map(|fd| (fd, Open { ino: None, cursor: 0 }));
        Self { fs, root, open: standard.collect(), cursors: vec![0] }
    }

    /// Does what `calls` did.
    ///
    /// # Errors
    /// A call that is not known, or that cannot have gone as recorded.
    pub(crate) fn run(&mut self, calls: &[Call]) -> Result<(), String> {
        for call in calls.iter().filter(|call| call.result.is_some()) {
            self.step(call).map_err(|why| format!("{why}: {}", call.line))?;
        }
        Ok(())
    }

    fn step(&mut self, call: &Call) -> Result<(), String> {
        let result = call.result.unwrap_or_default();
        let arg = |n: usize| call.args.get(n).map(String::as_str).unwrap_or_default();
        let number = |n: usize| number(arg(n));
        match call.name.as_str() {
            "open" => self.opened(result, "AT_FDCWD", arg(0), arg(1), arg(2)),
            "creat" => self.opened(result, "AT_FDCWD", arg(0), "O_CREAT|O_WRONLY|O_TRUNC", arg(1)),
            "openat" => self.opened(result, arg(0), arg(1), arg(2), arg(3)),
            "mkdir" => self.made("AT_FDCWD", arg(0), Node::Dir(BTreeMap::new()), arg(1)),
            "mkdirat" => self.made(arg(0), arg(1), Node::Dir(BTreeMap::new()), arg(2)),
            "symlink" => self.made("AT_FDCWD", arg(1), Node::Link(text(arg(0))?), "0777"),
            "symlinkat" => self.made(arg(1), arg(2), Node::Link(text(arg(0))?), "0777"),
            "link" => self.linked("AT_FDCWD", arg(0), "AT_FDCWD", arg(1), false),
            "linkat" => self.linked(arg(0), arg(1), arg(2), arg(3), arg(4).contains("AT_SYMLINK_FOLLOW")),
            "unlink" | "rmdir" => self.unlinked("AT_FDCWD", arg(0)),
            "unlinkat" => self.unlinked(arg(0), arg(1)),
            "rename" => self.renamed("AT_FDCWD", arg(0), "AT_FDCWD", arg(1)),
            "renameat" => self.renamed(arg(0), arg(1), arg(2), arg(3)),
            "renameat2" if matches!(arg(4), "0" | "RENAME_NOREPLACE") => {
                self.renamed(arg(0), arg(1), arg(2), arg(3))
            }
            "renameat2" if arg(4) == "RENAME_EXCHANGE" => {
                let (old, new) = (text(arg(1))?, text(arg(3))?);
                let from = self.start(arg(0), &old)?.ok_or("outside")?;
                let to = self.start(arg(2), &new)?.ok_or("outside")?;
                self.fs.exchange(from, to)
            }
            "write" | "writev" => self.written(number(0)?, arg(1), None, result),
            "pwrite64" | "pwritev" | "pwritev2" => {
                if call.name == "pwritev2" && !matches!(arg(4), "0" | "") {
                    return Err("flags".to_owned());
                }
                self.written(number(0)?, arg(1), Some(number(3)?), result)
            }
            "copy_file_range" => self.copied((number(0)?, arg(1)), (number(2)?, arg(3)), result),
            "sendfile" => self.copied((number(1)?, arg(2)), (number(0)?, "NULL"), result),
            "ioctl" if arg(1).contains("FICLONE") && !arg(1).contains("RANGE") => {
                let from = self.ino(number(2)?)?.ok_or("a clone from outside")?;
                let content = self.fs.content(from)?;
                let bytes = content.read(0, content.len_bytes());
                let to = self.ino(number(0)?)?.ok_or("a clone to outside")?;
                self.fs.edit(to, Edit::SetLen(0))?;
                self.fs.edit(to, Edit::write(0, &bytes))
            }
            "ioctl" if self.ino(number(0)?)?.is_none() => Ok(()),
            "fallocate" if arg(1) == "0" => {
                let to = self.ino(number(0)?)?.ok_or("outside")?;
                let end = unsigned(number(2)? + number(3)?)?;
                if self.fs.content(to)?.len_bytes() < end {
                    self.fs.edit(to, Edit::SetLen(end))
                } else {
                    Ok(())
                }
            }
            "fallocate" if arg(1) == "FALLOC_FL_KEEP_SIZE" => Ok(()),
            "ftruncate" => {
                let to = self.ino(number(0)?)?.ok_or("outside")?;
                self.fs.edit(to, Edit::SetLen(unsigned(number(1)?)?))
            }
            "truncate" => {
                let to = self.find("AT_FDCWD", arg(0), true)?.ok_or("outside")?;
                self.fs.edit(to, Edit::SetLen(unsigned(number(1)?)?))
            }
            "fsync" | "fdatasync" => {
                if let Some(ino) = self.ino(number(0)?)? {
                    self.fs.sync(ino);
                }
                Ok(())
            }
            "sync" | "syncfs" => {
                self.fs.sync_all();
                Ok(())
            }
            // It promises nothing that a disk would have to keep.
            "sync_file_range" => Ok(()),
            "fchmod" => {
                let ino = self.ino(number(0)?)?.ok_or("outside")?;
                self.fs.set_mode(ino, mode(arg(1))?);
                Ok(())
            }
            "chmod" | "fchmodat" => {
                let path = usize::from(call.name == "fchmodat");
                let dir = if path == 0 { "AT_FDCWD" } else { arg(0) };
                let ino = self.find(dir, arg(path), true)?.ok_or("outside")?;
                self.fs.set_mode(ino, mode(arg(path + 1))?);
                Ok(())
            }
            // Whose files they are is no part of the model.
            "chown" | "fchown" | "lchown" | "fchownat" | "utimensat" | "fsetxattr" => Ok(()),
            "socketpair" | "pipe" | "pipe2" => {
                let both = arg(if call.name == "socketpair" { 3 } else { 0 });
                both.trim_matches(['[', ']']).split(',').try_for_each(|fd| {
                    self.outside(fd.trim().parse().map_err(|_| format!("{both:?} are no numbers"))?);
                    Ok(())
                })
            }
            "eventfd2" | "epoll_create1" => {
                self.outside(result);
                Ok(())
            }
            "close" => self.open.remove(&number(0)?).map(drop).ok_or_else(|| "not open".to_owned()),
            "dup" | "dup2" | "dup3" => self.duplicated(number(0)?, result),
            "fcntl" if arg(1).starts_with("F_DUPFD") => self.duplicated(number(0)?, result),
            "fcntl" if ["F_GETFD", "F_GETFL", "F_SETFD"].contains(&arg(1)) => Ok(()),
            "lseek" => self.moved(number(0)?, |_| result),
            "read" | "readv" => self.moved(number(0)?, |at| at + result),
            "mmap" if arg(3).contains("MAP_SHARED") && arg(2).contains("PROT_WRITE") && arg(4) != "-1" => {
                Err("writes through a map cannot be followed".to_owned())
            }
            "mmap" => Ok(()),
            "clone" | "clone3" if call.line.contains("CLONE_THREAD") => Ok(()),
            "execve" if self.fs.ops().is_empty() => Ok(()),
            _ => Err("a call that is not known here".to_owned()),
        }
    }

    /// Where the path leads that is `arg` from `dir`; `None` outside the world.
    fn start<'p>(&self, dir: &str, path: &'p str) -> Result<Option<(Ino, &'p str)>, String> {
        if path.starts_with('/') {
            let root = self.root.to_str().ok_or("a root that is no text")?;
            return Ok(match path.strip_prefix(root) {
                Some("") => Some((ROOT, "")),
                Some(below) if below.starts_with('/') => Some((ROOT, below)),
                _ => None,
            });
        }
        if dir == "AT_FDCWD" {
            return Ok(Some((ROOT, path)));
        }
        Ok(self.ino(number(dir)?)?.map(|ino| (ino, path)))
    }

    fn find(&self, dir: &str, arg: &str, follow: bool) -> Result<Option<Ino>, String> {
        let path = text(arg)?;
        if let Some(fd) = path.strip_prefix("/proc/self/fd/") {
            return self.ino(fd.parse().map_err(|_| "no number")?);
        }
        self.start(dir, &path)?.map(|(start, path)| self.fs.find(start, path, follow)).transpose()
    }

    fn ino(&self, fd: i64) -> Result<Option<Ino>, String> {
        Ok(self.open.get(&fd).ok_or_else(|| format!("{fd} is not open"))?.ino)
    }

    fn opened(&mut self, fd: i64, dir: &str, path: &str, flags: &str, mode_arg: &str) -> Result<(), String> {
        let path = text(path)?;
        let writes = flags.contains("O_WRONLY") || flags.contains("O_RDWR");
        let has = |flag: &str| flags.split('|').any(|f| f == flag);
        if has("O_APPEND") {
            return Err("appending".to_owned());
        }
        let ino = match self.start(dir, &path)? {
            None if writes && !["/dev/null", "/dev/tty"].contains(&path.as_str()) => {
                return Err("writes outside the world".to_owned());
            }
            None => None,
            Some(_) if has("O_TMPFILE") => {
                Some(self.fs.make(Node::File(Content::default().into()), mode(mode_arg)?))
            }
            Some((start, path)) => {
                let found = self.fs.find(start, path, true);
                match found {
                    Err(_) if has("O_CREAT") => {
                        let ino = self.fs.make(Node::File(Content::default().into()), mode(mode_arg)?);
                        self.fs.link(start, path, ino)?;
                        Some(ino)
                    }
                    found => {
                        let ino = found?;
                        if has("O_TRUNC") && writes {
                            self.fs.edit(ino, Edit::SetLen(0))?;
                        }
                        Some(ino)
                    }
                }
            }
        };
        self.cursors.push(0);
        self.open.insert(fd, Open { ino, cursor: self.cursors.len() - 1 });
        Ok(())
    }

    /// Something is open that is no file of the world.
    fn outside(&mut self, fd: i64) {
        self.cursors.push(0);
        self.open.insert(fd, Open { ino: None, cursor: self.cursors.len() - 1 });
    }

    fn made(&mut self, dir: &str, path: &str, node: Node, mode_arg: &str) -> Result<(), String> {
        let path = text(path)?;
        let (start, path) = self.start(dir, &path)?.ok_or("outside")?;
        let ino = self.fs.make(node, mode(mode_arg)?);
        self.fs.link(start, path, ino)
    }

    fn linked(&mut self, dir: &str, old: &str, new_dir: &str, new: &str, follow: bool) -> Result<(), String> {
        let ino = self.find(dir, old, follow)?.ok_or("outside")?;
        let new = text(new)?;
        let (start, path) = self.start(new_dir, &new)?.ok_or("outside")?;
        self.fs.link(start, path, ino)
    }

    fn unlinked(&mut self, dir: &str, path: &str) -> Result<(), String> {
        let path = text(path)?;
        let (start, path) = self.start(dir, &path)?.ok_or("outside")?;
        self.fs.unlink(start, path)
    }

    fn renamed(&mut self, dir: &str, old: &str, new_dir: &str, new: &str) -> Result<(), String> {
        let (old, new) = (text(old)?, text(new)?);
        let from = self.start(dir, &old)?.ok_or("outside")?;
        let to = self.start(new_dir, &new)?.ok_or("outside")?;
        self.fs.rename(from, to)
    }

    fn written(&mut self, fd: i64, arg: &str, at: Option<i64>, result: i64) -> Result<(), String> {
        let Some(ino) = self.ino(fd)? else { return Ok(()) };
        let mut bytes = strings(arg)?;
        bytes.truncate(usize::try_from(result).map_err(|e| e.to_string())?);
        if bytes.len() as i128 != i128::from(result) {
            return Err("recorded in part only".to_owned());
        }
        let offset = match at {
            Some(at) => unsigned(at)?,
            None => {
                let cursor = &mut self.cursors[self.open[&fd].cursor];
                *cursor += bytes.len() as u64;
                *cursor - bytes.len() as u64
            }
        };
        self.fs.edit(ino, Edit::write(offset, &bytes))
    }

    fn copied(&mut self, from: (i64, &str), to: (i64, &str), result: i64) -> Result<(), String> {
        let len_bytes = unsigned(result)?;
        let mut offset = |(fd, arg): (i64, &str)| -> Result<u64, String> {
            if arg != "NULL" {
                let first = arg.split("=>").next().unwrap_or_default();
                return unsigned(number(first.trim().trim_matches(['[', ']']))?);
            }
            let cursor = self.open.get(&fd).ok_or("not open")?.cursor;
            let at = self.cursors[cursor];
            self.cursors[cursor] += len_bytes;
            Ok(at)
        };
        let (from_offset, to_offset) = (offset(from)?, offset(to)?);
        let source = self.ino(from.0)?.ok_or("a copy from outside")?;
        let bytes = self.fs.content(source)?.read(from_offset, len_bytes);
        if bytes.len() as u64 != len_bytes {
            return Err("copied more than there is".to_owned());
        }
        let target = self.ino(to.0)?.ok_or("a copy to outside")?;
        self.fs.edit(target, Edit::write(to_offset, &bytes))
    }

    fn duplicated(&mut self, old: i64, new: i64) -> Result<(), String> {
        let open = self.open.get(&old).ok_or("not open")?.clone();
        self.open.insert(new, open);
        Ok(())
    }

    fn moved(&mut self, fd: i64, to: impl Fn(i64) -> i64) -> Result<(), String> {
        let cursor = self.open.get(&fd).ok_or("not open")?.cursor;
        let at = i64::try_from(self.cursors[cursor]).map_err(|e| e.to_string())?;
        self.cursors[cursor] = unsigned(to(at))?;
        Ok(())
    }
}

fn number(arg: &str) -> Result<i64, String> {
    arg.parse().map_err(|_| format!("{arg:?} is no number"))
}

fn unsigned(n: i64) -> Result<u64, String> {
    u64::try_from(n).map_err(|e| e.to_string())
}

fn mode(arg: &str) -> Result<u32, String> {
    let umask = 0o022;
    u32::from_str_radix(arg, 8).map(|mode| mode & !umask).map_err(|_| format!("{arg:?} is no mode"))
}

fn text(arg: &str) -> Result<String, String> {
    String::from_utf8(strings(arg)?).map_err(|e| e.to_string())
}

/// Puts what is on the disk in `dir` into `at`.
fn read_tree(fs: &mut Fs, at: Ino, dir: &Path) {
    let mut open = vec![(at, dir.to_owned())];
    while let Some((at, dir)) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let node = if meta.is_dir() {
                Node::Dir(BTreeMap::new())
            } else if meta.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                Node::File(Content::of(&fs::read(&path).unwrap()).into())
            };
            let ino = fs.make(node, meta.permissions().mode() & 0o7777);
            fs.names(String::new(), vec![(at, entry.file_name().to_str().unwrap().to_owned(), Some(ino))])
                .unwrap();
            if meta.is_dir() {
                open.push((ino, path));
            }
        }
    }
}

/// What is on the disk in `dir`.
pub(crate) fn on_disk(dir: &Path) -> State {
    let mut fs = Fs::default();
    let top = fs.make(Node::Dir(BTreeMap::new()), 0o755);
    fs.link(ROOT, "top", top).unwrap();
    read_tree(&mut fs, top, dir);
    fs.now("top").unwrap()
}

/// Device and inode of each file of `dir`, by path: what a [`State`] of it calls by numbers of its own.
pub(crate) fn inodes(dir: &Path, state: &State) -> BTreeMap<Ino, (u64, u64)> {
    let real = |path: &str| fs::symlink_metadata(dir.join(path)).map(|meta| (meta.dev(), meta.ino()));
    state.found.iter().filter_map(|(path, found)| Some((found.ino, real(path).ok()?))).collect()
}
