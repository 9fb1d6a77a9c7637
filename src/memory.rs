//! How the C library's allocator keeps what was freed. By default it raises the size from which a buffer is a mapping of its own
//! with each such buffer that is freed, and has threads take from eight heaps a core; of the buffers of downloads, uploads and
//! copies, megabytes each, it then holds a second set for good.

/// Buffers of at least so many bytes are given back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_BYTES: i32 = 1 << 20;

/// How many heaps there are for what is smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Has it give large buffers back at once. To be called before there are threads; other libraries are left as they are.
pub fn give_back_early() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the allocator is set by a C function")]
    // SAFETY: both calls set a number, and are valid at any time. What is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
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
