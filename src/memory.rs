//! Memory that longhaul does not need for long: its own program.
//!
//! Most of what a small process has resident is the file it was started from.
//! Starting runs through much of it once, and the kernel maps what lies around
//! each page that is touched. What is given back comes again, page by page, when
//! it is needed; for a process that waits for hours that is little.

use std::ffi::c_void;

/// Gives back the pages of the program's code. They stay in the system's cache.
pub fn release_program() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(|line| code_of(line, &own.to_string_lossy())) {
        release(start, length);
    }
}

/// Start and length of a mapping of the program's code. Nothing else may be given
/// back: what looks read-only may have been relocated, and is in no file then.
fn code_of(line: &str, own: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && line.ends_with(own) && !own.is_empty();
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (is_code && end > start).then_some((start, end - start))
}

#[expect(unsafe_code, reason = "giving memory back is unsafe in general")]
fn release(start: usize, length: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is a private mapping of the program's file that can be
    // read and executed but not written, so it was never changed: whoever touches
    // a page of it, this very function included, gets the same bytes from the file.
    let _ = unsafe { madvise(start as *mut c_void, length, Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        let own = "/usr/bin/longhaul";
        let code = "55d0c0a00000-55d0c0b00000 r-xp 00100000 08:01 42   /usr/bin/longhaul";
        assert_eq!(code_of(code, own), Some((0x55d0_c0a0_0000, 0x10_0000)));
        for other in [
            "55d0c0a00000-55d0c0b00000 r--p 00100000 08:01 42   /usr/bin/longhaul",
            "55d0c0a00000-55d0c0b00000 rw-p 00100000 08:01 42   /usr/bin/longhaul",
            "7f00c0a00000-7f00c0b00000 r-xp 00100000 08:01 43   /usr/lib/libc.so.6",
            "7f00c0a00000-7f00c0b00000 r-xp 00000000 00:00 0    [vdso]",
            "",
        ] {
            assert_eq!(code_of(other, own), None, "{other}");
        }
    }

    #[test]
    fn what_was_given_back_comes_again() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        release_program();
        let after = resident();
        assert!(after < before, "{after} kB of {before}");
        only_code_of_the_program_is_given_back();
    }
}
