//! Has somebody a file open for writing? The kernel knows: it gives no read lease on
//! such a file.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Who has the file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nobody.
    None,
    /// Somebody: what is in the file need not be all.
    Some,
    /// It cannot be known here: the file is another user's, or its file system has no
    /// leases.
    Unknown,
}

// The numbers of Linux on every architecture that Rust knows but MIPS and SPARC, where
// the calls would merely fail.
const F_SETSIG: c_int = 10;
const F_SETLEASE: c_int = 1024;
const F_RDLCK: c_int = 0;
const F_UNLCK: c_int = 2;

#[expect(unsafe_code, reason = "rustix has no leases")]
fn fcntl(file: BorrowedFd<'_>, command: c_int, argument: c_int) -> Result<(), Errno> {
    unsafe extern "C" {
        fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    }
    // SAFETY: the descriptor is open as long as the borrow lives, and both commands
    // take a number, through which the kernel reads and writes nothing of ours.
    let done = unsafe { fcntl(file.as_raw_fd(), command, argument) };
    let failed = || Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    if done < 0 { Err(failed()) } else { Ok(()) }
}

/// Who writes to this file, which is open for reading?
pub(super) fn of(file: BorrowedFd<'_>) -> Writer {
    // Whoever opens it in the moment of the lease has the kernel send us a signal, of
    // which the usual one would end the process. Nobody listens to this one.
    let unheard = rustix::process::Signal::URG.as_raw();
    if fcntl(file, F_SETSIG, unheard).is_err() {
        return Writer::Unknown;
    }
    match fcntl(file, F_SETLEASE, F_RDLCK) {
        Ok(()) => {
            // If this fails, closing the file does it.
            let _ = fcntl(file, F_SETLEASE, F_UNLCK);
            Writer::None
        }
        Err(Errno::AGAIN) => Writer::Some,
        Err(_) => Writer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernel_tells_who_has_a_file_open_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        let first = of(reader.as_fd());
        if first == Writer::Unknown {
            // Temporary files are on a file system without leases.
            return;
        }
        assert_eq!(first, Writer::None);
        for options in [OpenOptions::new().append(true), OpenOptions::new().read(true).write(true)]
        {
            let writer = options.open(&path).unwrap();
            assert_eq!(of(reader.as_fd()), Writer::Some);
            drop(writer);
            assert_eq!(of(reader.as_fd()), Writer::None);
        }
    }
}
