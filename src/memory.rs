//! How the C library's allocator keeps what was freed. By default it raises the size from which a buffer is a mapping of its own
//! with each such buffer that is freed, and has threads take from eight heaps a core; of the buffers of downloads, uploads and
//! copies, megabytes each, it then holds a second set for good. Where the library is another one, nothing is done.

/// Buffers of at least so many bytes are given back to the system when they are freed. Once this is set, the end of a heap is
/// given back too where 128 KiB of it are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_BYTES: i32 = 1 << 20;

/// How many heaps there are for what is smaller; little of it is asked for by several threads at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Has it give large buffers back at once, whatever `MALLOC_ARENA_MAX` and its like say. To be called first in `main`: threads that
/// are there already keep their heaps.
pub fn give_back_early() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator is set by a C function")]
    // SAFETY: both calls set a number, under the allocator's own lock. What is refused changes nothing.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, HEAPS);
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_mb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    #[test]
    fn large_buffers_that_are_freed_are_not_kept_behind_small_ones_in_use() {
        give_back_early();
        drop(std::hint::black_box(vec![1_u8; 8 << 20])); // by default 8 MB are no large buffer from here on
        let buffers: Vec<_> = (0..64).map(|_| (vec![1_u8; 4 << 20], Box::new([1_u8; 64]))).collect();
        let held = resident_mb();
        let small: Vec<_> = buffers.into_iter().map(|(_large, small)| small).collect();
        let left = resident_mb();
        assert_eq!(small.len(), 64);
        assert!(left + 200 < held, "{left} of {held} MB are left");
    }
}
