//! Memory that longhaul does not need for long: its own program, and its libraries.
//!
//! Most of what a small process has resident is the file it was started from.
//! Starting runs through much of it once, and the kernel maps what lies around
//! each page that is touched. What is given back comes again, page by page, when
//! it is needed; for a process that waits for hours that is little.

use std::ffi::c_void;

/// Gives back what is mapped of files and was never changed: code and constants of
/// the program and its libraries. The pages stay in the system's cache.
pub fn release_program() {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (start, length) in clean_mappings(&maps) {
        release(start, length);
    }
}

/// Start and length of each mapping of a file that cannot be written to and holds no
/// page of this process's own. What looks read-only may have been relocated; then it
/// is in no file any more, and the kernel counts it as anonymous.
fn clean_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        match mapping {
            Some(range) if line.starts_with("Anonymous:") => {
                if line.split_ascii_whitespace().nth(1) == Some("0") {
                    found.push(range);
                }
                mapping = None;
            }
            _ => mapping = file_mapping(line).or(mapping),
        }
    }
    found
}

/// The range of a mapping of a file that can be read, or executed, and nothing else.
fn file_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_fixed = matches!(fields.next()?, "r-xp" | "r--p");
    let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (is_fixed && is_file && end > start).then_some((start, end - start))
}

#[expect(unsafe_code, reason = "giving memory back is unsafe in general")]
fn release(start: usize, length: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is a private mapping of a file that cannot be written to and
    // holds no changed page: whoever touches a page of it, this very function
    // included, gets the same bytes from the file.
    let _ = unsafe { madvise(start as *mut c_void, length, Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_a_file_as_it_is_in_memory_is_given_back() {
        let entry = |line: &str, anonymous: u32| {
            format!("{line}\nSize: 1024 kB\nRss: 8 kB\nAnonymous: {anonymous} kB\nVmFlags: rd\n")
        };
        let code = "55d0c0a00000-55d0c0b00000 r-xp 00100000 08:01 42   /usr/bin/longhaul";
        let range = vec![(0x55d0_c0a0_0000, 0x10_0000)];
        assert_eq!(clean_mappings(&entry(code, 0)), range);
        let constants = code.replace("r-xp", "r--p");
        assert_eq!(clean_mappings(&entry(&constants, 0)), range);
        assert_eq!(clean_mappings(&entry(&constants, 4)), [], "relocated");
        for other in [
            code.replace("r-xp", "rw-p"),
            code.replace("r-xp", "r-xs"),
            code.replace("/usr/bin/longhaul", "[vdso]"),
            code.replace("/usr/bin/longhaul", ""),
        ] {
            assert_eq!(clean_mappings(&entry(&other, 0)), [], "{other}");
        }
        let both = entry(code, 0) + &entry(&constants, 4) + &entry(&constants, 0);
        assert_eq!(clean_mappings(&both).len(), 2);
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
        only_what_is_in_a_file_as_it_is_in_memory_is_given_back();
    }
}
